"""The books of a soak: what became of each request. No server, no clock: account_test.py cooks them.

A request is open from the moment it is sent until an answer comes. It may be excused, that is
counted as lost if nothing ever comes, only for one of these reasons:

    proxy killed      it was open when the proxy had been killed with kill -9
    server killed, server stopped
                      it was open when our stream to that server ended
    swallowed         it was sent after the proxy's kill, and before another one that the server
                      returned because nobody is connected: servers deal with a client's requests in
                      order, so this one was written to a connection that had no reader any more

Whatever else gets no answer is unexplained. Nothing excuses a second answer, or an answer to what
was not asked.
"""

import collections

REASONS = "proxy killed", "server killed", "server stopped", "swallowed"


class Account:
    def __init__(self):
        self.sent = 0
        self.open = {}            # id: None, in the order sent
        self.excused = {}         # id: reason
        self.outcome = {}         # id: answered, or the words of the error
        self.wrong = []           # what must not be, in words
        self.errors = collections.Counter()
        self.gap = None           # ids sent since the proxy's kill

    def ask(self, id):
        if id in self.outcome or id in self.excused or id in self.open:
            raise ValueError("%s is sent twice" % id)
        self.sent += 1
        self.open[id] = None
        if self.gap is not None:
            self.gap.append(id)

    def answer(self, id, error=None, nobody_connected=False):
        """Note an answer; error: its words. nobody_connected: the server says that nobody is connected."""
        if id in self.outcome:
            self.wrong.append("twice: %s, %s and then %s" % (id, self.outcome[id], error or "answered"))
            return
        if id not in self.open and id not in self.excused:
            self.wrong.append("never asked: %s" % id)
            return
        if nobody_connected:
            self._gap_ends(id)
        self.open.pop(id, None)
        self.excused.pop(id, None)
        self.outcome[id] = error or "answered"
        if error:
            self.errors[error] += 1

    def _gap_ends(self, id):
        """The server knows that nobody is connected: what it passed on before is lost."""
        if self.gap is None:
            return
        before = self.gap[:self.gap.index(id)] if id in self.gap else []
        for other in before:
            if other in self.open:
                del self.open[other]
                self.excused[other] = "swallowed"
        self.gap = None

    def excuse(self, reason):
        """Note that all that is open now may be lost, and why."""
        if reason not in REASONS:
            raise ValueError(reason)
        for id in self.open:
            self.excused[id] = reason
        self.open.clear()
        self.gap = [] if reason == "proxy killed" else None

    def table(self):
        """Return what became of how many; the numbers add up to what was sent."""
        lines = collections.OrderedDict((name, 0) for name in ("answered", "refused"))
        for outcome in self.outcome.values():
            lines["answered" if outcome == "answered" else "refused"] += 1
        for reason in REASONS:
            lines["lost: " + reason] = sum(r == reason for r in self.excused.values())
        lines["unexplained"] = len(self.open)
        return lines

    def faults(self):
        """Return why the run has failed; empty if it has not."""
        faults = list(self.wrong)
        faults += ["unexplained: %s got no answer" % id for id in self.open]
        total = sum(self.table().values())
        if total != self.sent:
            faults.append("%d were sent, %d are accounted for" % (self.sent, total))
        return faults


class Refreshes:
    """What became of each request to refresh a roster. A request stands for a version of it, the one
    that the web application had when it was asked: whoever is told "updated", and whoever was in
    the spool when the listener ended, must find that version or a later one on the server in the
    end, and whoever is told "updated" was heard after the web application had been asked for it.
    A connection may break without an answer only while the listener ends."""

    def __init__(self):
        self.open = {}            # id: (user, version)
        self.promised = {}        # the same: must be there in the end
        self.spooled = set()      # ids of those that were promised by the spool alone
        self.excused = {}         # ids that were open when the listener ended: how it did
        self.ending = None        # how, while it does
        self.counts = collections.Counter()
        self.wrong = []

    def ask(self, id, user, version):
        self.open[id] = user, version

    def connects(self, id):
        """An earlier connection that broke excuses this request no more."""
        self.excused.pop(id, None)

    def answer(self, id, updated, served_version):
        user, version = self.open.pop(id)
        self.counts["updated" if updated else "refused"] += 1
        if not updated:
            return
        self.promised[id] = user, version
        self.spooled.discard(id)
        if served_version < version:
            self.wrong.append("too early: %s is told that %s is updated, version %d was not asked for"
                              % (id, user, version))

    def broke(self, id):
        self.open.pop(id)
        how = self.ending or self.excused.get(id)
        self.counts["broken, listener %s" % how] += 1
        if not how:
            self.wrong.append("unexplained: the connection of %s broke" % id)

    def listener_ends(self, how):
        self.ending = how

    def listener_ended(self, spooled_users):
        """The listener is gone, and this is what its spool holds."""
        self.excused.update((id, self.ending) for id in self.open)
        self.ending = None
        for id, (user, version) in self.open.items():
            if user in spooled_users and id not in self.promised:
                self.promised[id] = user, version
                self.spooled.add(id)

    def lost(self, final):
        """Return the ids of requests whose version is missing; final: the server's version for each user."""
        return [id for id, (user, version) in self.promised.items() if final.get(user, -1) < version]

    def faults(self, final):
        return self.wrong + ["lost: %s" % id for id in self.lost(final)] \
            + ["no answer: %s" % id for id in self.open]
