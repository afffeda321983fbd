#!/usr/bin/python3
"""A client written with slixmpp (Debian's python3-slixmpp), with stream management as it comes.

    slixclient.py serve JID PORT     an implementing client: accepts the subscription, answers
                                     <q xmlns='urn:x'/> with its resource and prints "did TYPE ID";
                                     has ping, version, disco, a command of three steps and takes
                                     in-band bytestreams (it sends back what comes, in capitals)
    slixclient.py use JID PORT TO WHAT [N]
                                     a user: asks TO for WHAT (ping, version, disco, command, bytestream)
                                     N times and prints "ok" for each that went as it should

"ready" is printed once it is available. It runs until it is killed, or has used what it should.
"""

import asyncio
import logging
import signal
import sys
import xml.etree.ElementTree as ET

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXMLMask

PLUGINS = "xep_0004", "xep_0030", "xep_0047", "xep_0050", "xep_0092", "xep_0115", "xep_0198", "xep_0199"


def say(*words):
    print(*words, flush=True)


class Base(ClientXMPP):
    def __init__(self, jid):
        super().__init__(jid, "pw", plugin_config={"feature_mechanisms": {"unencrypted_plain": True},
                                                   "xep_0092": {"software_name": "slix", "version": "1"}})
        for plugin in PLUGINS:
            self.register_plugin(plugin)
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("failed_all_auth", lambda event: sys.exit("login failed"))

    async def started(self, event):
        self.send_presence()
        await self.get_roster()
        say("ready")
        await self.work()

    async def work(self):
        pass

    def leave(self):
        """Log out, so that no session hibernates."""
        self.add_event_handler("disconnected", lambda event: sys.exit(0))
        self.disconnect()


class Serve(Base):
    def __init__(self, jid):
        super().__init__(jid)
        self.auto_authorize = True
        self.register_handler(Callback("q", MatchXMLMask("<iq xmlns='jabber:client'><q xmlns='urn:x'/></iq>"), self.on_q))
        self["xep_0047"].auto_accept = True
        self.add_event_handler("ibb_stream_data", self.on_data)

    async def started(self, event):
        # now that it has its address, which stands in the list of commands
        self["xep_0050"].add_command(node="three", name="Three steps", handler=self.first)
        await super().started(event)

    def on_q(self, iq):
        if iq["type"] not in ("get", "set"):
            return
        say("did", iq["type"], iq["id"])
        reply = iq.reply()
        by = ET.Element("{urn:x}by")
        by.text = self.boundjid.resource
        reply.append(by)
        reply.send()

    def first(self, iq, session):
        form = self["xep_0004"].make_form("form", "one")
        form.add_field(var="a", value="")
        session.update(payload=form, next=self.second, has_next=True)
        return session

    def second(self, payload, session):
        session["a"] = payload["values"]["a"]
        form = self["xep_0004"].make_form("form", "two")
        form.add_field(var="b", value="")
        session.update(payload=form, next=self.third, has_next=False)
        return session

    def third(self, payload, session):
        form = self["xep_0004"].make_form("result", "done")
        form.add_field(var="both", value=session["a"] + payload["values"]["b"])
        session.update(payload=form, next=None, has_next=False)
        return session

    def on_data(self, stream):
        data = stream.read()
        asyncio.ensure_future(stream.send(data.upper()))


class Use(Base):
    def __init__(self, jid, to, what, times=1):
        super().__init__(jid)
        self.to, self.what, self.times = to, what, int(times)

    async def work(self):
        for n in range(self.times):
            try:
                say("ok" if await getattr(self, self.what)(n) else "wrong")
            except (IqError, IqTimeout) as e:
                say("refused", e.iq if isinstance(e, IqError) else "timeout")
        self.disconnect()

    async def ping(self, n):
        return await self["xep_0199"].send_ping(self.to) is not None

    async def version(self, n):
        answer = await self["xep_0092"].get_version(self.to)
        return answer["software_version"]["name"] == "slix"

    async def disco(self, n):
        info = await self["xep_0030"].get_info(self.to)
        items = await self["xep_0030"].get_items(self.to, node="http://jabber.org/protocol/commands")
        # what it lists is asked where it says, which is the proxy
        features = info["disco_info"]["features"]
        listed = [(str(jid), node) for jid, node, name in items["disco_items"]["items"]]
        return "urn:xmpp:ping" in features and listed == [(self.to, "three")]

    async def step(self, action, session=None, **values):
        iq = self.make_iq_set(ito=self.to)
        command = iq["command"]
        command["node"], command["action"] = "three", action
        if session:
            command["sessionid"] = session
            form = self["xep_0004"].make_form("submit")
            for var, value in values.items():
                form.add_field(var=var, value=value)
            command.append(form)
        return (await iq.send(timeout=20))["command"]

    async def command(self, n):
        one = await self.step("execute")
        two = await self.step("next", one["sessionid"], a="x%d" % n)
        three = await self.step("complete", two["sessionid"], b="y")
        return three["status"] == "completed" and three["form"]["values"]["both"] == "x%dy" % n

    async def bytestream(self, n):
        stream = await self["xep_0047"].open_stream(self.to, sid="s%d" % n)
        back = asyncio.get_event_loop().create_future()
        self.add_event_handler("ibb_stream_data", lambda s: back.set_result(s.read()), disposable=True)
        await stream.send(b"in band %d" % n)
        got = await asyncio.wait_for(back, 20)
        await stream.close()
        return got == b"IN BAND %d" % n


def main():
    logging.basicConfig(level=logging.ERROR)
    mode, jid, port, *rest = sys.argv[1:]
    client = Serve(jid) if mode == "serve" else Use(jid, *rest)
    asyncio.get_event_loop().add_signal_handler(signal.SIGTERM, client.leave)
    if hasattr(client, "enable_plaintext"):  # slixmpp 1.9 and later
        client.enable_direct_tls = client.enable_starttls = False
        client.enable_plaintext = True
        client.connect("127.0.0.1", int(port))
        loop = asyncio.get_event_loop()
        if mode == "serve":
            loop.run_forever()
        else:
            loop.run_until_complete(client.disconnected)
    else:
        client.connect(("127.0.0.1", int(port)), use_ssl=False, force_starttls=False, disable_starttls=True)
        client.process(forever=mode == "serve")


main()
