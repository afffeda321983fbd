"""An instance of a component written with slixmpp, as xmpp-share gets them.

    slixcomponent.py DOMAIN PORT SECRET NAME

Answers ping and version (XEP-0199, XEP-0092), and <q xmlns='urn:x'/> with its name; sends presence
and a message when it is asked <say xmlns='urn:x'/>."""

import asyncio
import logging
import sys
import xml.etree.ElementTree as ET

from slixmpp import ComponentXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath


class Instance(ComponentXMPP):
    def __init__(self, domain, port, secret, name):
        super().__init__(domain, secret, "127.0.0.1", port)
        self.name = name
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0092", {"software_name": name})
        self.register_plugin("xep_0199")
        for query, answer in (("{urn:x}q", self.on_query), ("{urn:x}say", self.on_say)):
            self.register_handler(Callback(query, MatchXPath("{jabber:component:accept}iq/" + query), answer))
        self.add_event_handler("session_start", lambda _: print("ready", flush=True))

    def on_query(self, iq):
        reply = iq.reply()
        by = ET.Element("{urn:x}by")
        by.text = self.name
        reply.append(by)
        reply.send()

    def on_say(self, iq):
        self.send_presence(pto=iq["from"], pfrom=iq["to"])
        self.send_message(mto=iq["from"], mbody=self.name, mfrom=iq["to"])
        iq.reply().send()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    instance = Instance(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
    instance.connect()
    asyncio.get_event_loop().run_forever()
