"""Queues and channels: nothing is lost, nothing doubled, and the order is kept."""

import asyncio
from itertools import islice

import atoll

from . import parties
from .base import VENUES, alarmed, attempt, name_of, need, rule

KINDS = parties.KINDS
RULES_OF_ORPHANS = (None, None, None, "KEEP", "UNBOUND", "UNBOUND_REMOVE", "UNBOUND_ERROR")


class Line:
    """A queue or a channel, and what the model knows of it."""

    def __init__(self, number, queue=None, channel=None, room=0):
        self.number = number
        self.queue = queue
        self.source, self.target = (queue, queue) if queue else channel
        self.room = room  # None: as much as you like
        self.ends = set()  # what its users may get
        self.dropped = False  # poison, or an immediate shutdown
        self.returned = False  # an item went back to its place, past which others were got
        self.acts = []
        self.count = 0  # items in it, while main alone uses it
        self.main_sent = []  # serials
        self.got = []  # those that main has received, in order
        self.each = []  # the same of coroutines of main's
        self.relayed_to = set()
        self.orphans = False  # items may go with their senders
        self.clean = True  # nobody but main has used it

    def __repr__(self):
        return repr(self.queue or self.target)

    def may(self):
        """What its users may get."""
        return self.ends | ({"ItemInterpreterDestroyed"} if self.orphans else set())


class Lines:
    """The steps with queues and channels."""

    def line(self, n):
        if not self.lines:
            return self.new_line()
        return self.lines[n % len(self.lines)]

    def new_line(self, maxsize=0):
        room = maxsize or None
        line = Line(len(self.lines), queue=atoll.create_queue(maxsize), room=room)
        self.lines.append(line)
        return line

    def new_sender(self):
        self.senders += 1
        return self.senders

    def use(self, line):
        line.clean = False

    # ------------------------------------------------------------------ steps

    @rule(3, maxsize=(0, 0, 1, 2, 5))
    def create_queue(self, maxsize):
        self.new_line(maxsize)

    @rule(4, capacity=(0, 0, 1, 2, 5))
    def create_channel(self, capacity):
        line = Line(len(self.lines), channel=atoll.create_channel(capacity), room=capacity)
        self.lines.append(line)

    @rule(6, line=6, kind=KINDS, timeout=(0, 0, 0.002))
    def send(self, line, kind, timeout):
        line = self.line(line)
        serial = (line.number, self.new_sender(), 0)
        item = parties.make(serial, kind)
        if line.queue:
            _, error = attempt(line.queue.put, item, timeout=timeout)
        elif timeout:
            _, error = attempt(line.target.send, item, timeout)
        else:
            _, error = attempt(line.target.send_nowait, item)
        full = "QueueFull" if line.queue else "ChannelTimeout" if timeout else "ChannelFull"
        if error is None:
            need(not line.ends, line, "took an item although it is closed")
            line.main_sent.append(serial)
        if line.ends:
            need(error in line.ends, line, "is closed, and put raised", error)
        elif line.clean:
            no_room = line.room is not None and line.count >= line.room
            need(error == (full if no_room else None), line, "has", line.count, "items; put",
                 error)  # fmt: skip
            line.count += error is None
        else:
            need(error in (None, full), line, "put raised", error)

    @rule(6, line=6, timeout=(0, 0, 0.002))
    def receive(self, line, timeout):
        line = self.line(line)
        if line.queue:
            item, error = attempt(line.queue.get, timeout=timeout)
        elif timeout:
            item, error = attempt(line.source.recv, timeout)
        else:
            item, error = attempt(line.source.recv_nowait)
        empty = (
            "QueueEmpty" if line.queue else "ChannelTimeout" if timeout else "ChannelEmpty"
        )
        if error is None:
            line.got.append(parties.check(item))
        if line.clean:
            if line.count and not line.dropped:
                need(error is None, line, "has", line.count, "items; get raised", error)
                line.count -= 1
            else:
                want = line.ends or {empty}
                need(error in want, line, "has no items; get raised", error, "not", want)
        else:
            need(error in line.may() | {None, empty}, line,
                 "get raised", error)  # fmt: skip

    @rule(1, line=6, how=("drain", "drain", "drop"))
    def end_line(self, line, how):
        line = self.line(line)
        if how == "drop" and line.queue:
            line.queue.shutdown(immediate=True)
            line.dropped = True
            line.ends.add("QueueShutDown")
        elif how == "drop":
            line.dropped = True
            line.ends.add("ChannelPoisoned")
            dropped = line.target.poison(ValueError("machine"))
            if line.clean:
                need(dropped == line.count, line, "had", line.count, "items; poison dropped",
                     dropped)  # fmt: skip
                line.ends, line.count = {"ChannelPoisoned"}, 0
        else:
            self.close_line(line)

    def close_line(self, line):
        line.ends.add("QueueShutDown" if line.queue else "ChannelClosed")
        if "ChannelPoisoned" in line.ends and line.clean:
            line.ends = {"ChannelPoisoned"}
        if line.queue:
            line.queue.shutdown()
        else:
            line.target.close()

    @rule(8, venue=VENUES, where=3, line=6, count=12, kind=KINDS, orphans=RULES_OF_ORPHANS,
          retire=(False, False, False, True))  # fmt: skip
    def produce(self, venue, where, line, count, kind, orphans, retire):
        line = self.line(line)
        self.use(line)
        sender = self.new_sender()
        if orphans not in (None, "KEEP"):
            line.orphans = True
        retire = retire and not line.queue and venue in ("spawn", "pool")
        args = (line.target, line.number, sender, count + 1, kind, orphans, retire)
        act = self.act(venue, where, "produce", args, [line])
        act.sender, act.line, act.orphans = sender, line, orphans not in (None, "KEEP")
        act.most = count + 1
        if retire:
            act.errors.add("ChannelClosed")

    @rule(8, venue=VENUES, where=3, line=6, limit=(1, 3, 10, 1000))
    def consume(self, venue, where, line, limit):
        line = self.line(line)
        self.use(line)
        self.act(venue, where, "consume", (line.source, limit), [line]).receives = [line]

    @rule(2, venue=VENUES, where=3, line=6, other=6, limit=(3, 1000))
    def relay(self, venue, where, line, other, limit):
        line, other = self.line(line), self.line(other)
        if line is other:
            return
        self.use(line)
        self.use(other)
        line.relayed_to.add(other)
        act = self.act(venue, where, "relay", (line.source, other.target, limit), [line, other])
        act.relays = line

    @rule(4, venue=VENUES, where=3, line=6, other=6, limit=(2, 10, 1000))
    def choose(self, venue, where, line, other, limit):
        lines = list({self.line(line): None, self.line(other): None})
        for one in lines:
            self.use(one)
        ends = [one.source for one in lines]
        self.act(venue, where, "choose", (ends, limit), lines).receives = lines

    @rule(3, venue=VENUES, where=3, line=6, other=6, count=2, seconds=(0, 0.005, 0.03))
    def await_items(self, venue, where, line, other, count, seconds):
        lines = list({self.line(line): None, self.line(other): None})
        for one in lines:
            self.use(one)
        ends = [one.source for one in lines]
        args = (ends, count + 1, seconds)
        self.act(venue, where, "await_items", args, lines).receives = lines

    @rule(3, line=6, other=6, kind=KINDS, timeout=(None, 0, 0.002))
    def select(self, line, other, kind, timeout):
        """Receive from one, or send to the other."""
        line, other = self.line(line), self.line(other)
        clean = line.clean and other.clean
        serial = (other.number, self.new_sender(), 0)
        cases = line.source, (other.target, parties.make(serial, kind))
        default = {"default": None} if timeout is None else {"timeout": timeout}
        try:
            index, value = atoll.select(*cases, **default)
            error, case = None, index
        except (atoll.ChannelError, atoll.QueueError) as exc:
            error, case = name_of(exc), exc.case
        except TimeoutError:
            error, case = None, None
        if error is not None and case is not None:
            of = line if case == 0 else other
            need(error in of.may(), "select raised", error)
        elif case == 0:
            line.got.append(parties.check(value))
            line.count -= 1
        elif case == 1:
            other.main_sent.append(serial)
            other.count += 1
        elif clean:
            need(error in (None, "QueueEmpty", "ChannelTimeout"), "select raised", error)
            need(not line.count or line.dropped, "select took nothing of", line)
            need((other.room is not None and other.count >= other.room) or other.ends,
                 "select put nothing into", other)  # fmt: skip
            need(not line.ends, line, "is closed, and select did not say so")

    @rule(3, line=6, limit=(1, 5), delay=(0.0002, 0.001, 0.005))
    def receive_alarmed(self, line, limit, delay):
        """The handler of a signal raises while main waits: nothing is lost."""
        line, got = self.line(line), []
        items = islice(parties.receiver(line.source), limit)
        _, error = alarmed(delay, got.extend, items)
        line.returned |= error == "Ticked"
        error = None if error == "Ticked" else error
        line.got += parties.serials(got)
        line.count -= len(got)
        need(error is None or error in line.may(), line,
             "get raised", error)  # fmt: skip

    @rule(2, line=6, other=6, count=3, seconds=(0, 0.003))
    def await_some(self, line, other, count, seconds):
        """Main's own coroutines, which are cancelled."""
        lines = list({self.line(line): None, self.line(other): None})
        got = [[[] for _ in range(count + 1)] for _ in lines]
        ends = [one.source for one in lines]
        errors = asyncio.run(parties._coroutines(ends, seconds, got))
        may = set().union(*(one.may() for one in lines))
        need(errors <= may, "coroutines raised", errors - may)
        for one, many in zip(lines, got, strict=True):
            one.returned = True
            one.each += map(parties.serials, many)
            one.count -= sum(map(len, many))

    @rule(2, line=6, other=6, kind=KINDS, timeout=(0, 0.001, 0.002), again=4)
    def select_async(self, line, other, kind, timeout, again):
        """Coroutines that select, with a time that is soon over."""
        line, other = self.line(line), self.line(other)
        got, sent, errors = [], [], set()

        async def one():
            serial = (other.number, self.new_sender(), 0)
            item = parties.make(serial, kind)
            try:
                index, value = await atoll.select_async(
                    line.source, (other.target, item), timeout=timeout
                )
            except TimeoutError:
                return
            except Exception as exc:
                errors.add(name_of(exc))
                return
            if index:
                sent.append(serial)
            else:
                got.append(value)

        async def main():
            await asyncio.gather(*[one() for _ in range(again + 1)])

        asyncio.run(main())
        need(errors <= line.may() | other.may(), "select_async raised", errors)
        line.returned = True
        line.each += [[serial] for serial in parties.serials(got)]
        other.main_sent += sent
        line.count -= len(got)
        other.count += len(sent)

    @rule(1, line=6, other=6, count=4)
    def fan_in(self, line, other, count):
        """What comes from several, as one."""
        lines = list({self.line(line): None, self.line(other): None})
        if not all(one.clean and one.count for one in lines) or self.dropping(lines):
            return
        items = atoll.fan_in(*(one.source for one in lines))
        for item in islice(items, min(count + 1, sum(one.count for one in lines))):
            serial = parties.check(item)
            [one] = [one for one in lines if one.number == serial[0]]
            one.got.append(serial)
            one.count -= 1

    def dropping(self, lines):
        return any(one.dropped for one in lines)

    @rule(1, receivers=3, capacity=(0, 1), count=(1, 5))
    def broadcast(self, receivers, capacity, count):
        ends, cast = atoll.create_broadcast(receivers + 1, capacity)
        tasks = [atoll.spawn(list, end) for end in ends]
        for n in range(count):
            sent = cast.send(n, 30)
            need(sent == len(ends), "a broadcast went to", sent, "of", len(ends))
        cast.close()
        got = [task.result(30) for task in tasks]
        need(got == [list(range(count))] * len(ends), "a broadcast gave", got)

    @rule(1, line=6)
    def look(self, line):
        line = self.line(line)
        if line.queue and line.clean:
            need(line.queue.qsize() == (0 if line.dropped else line.count), line, "has size",
                 line.queue.qsize(), "instead of", line.count)  # fmt: skip

    # -------------------------------------------------------------- the ledger

    def drain(self, line):
        """What is still in it, when nobody uses it any more."""
        while True:
            get = line.queue.get_nowait if line.queue else line.source.recv_nowait
            item, error = attempt(get)
            if error is None:
                line.got.append(parties.check(item))
            elif error == "ItemInterpreterDestroyed":
                need(line.orphans, line, "says that an item's interpreter is gone")
            else:
                need(error in line.ends, line, "drained, raised", error)
                return

    def balance(self):
        """Everything that was accepted has come out once, in order."""
        acts = [act for act in self.acts if act.name in parties.PARTIES]
        sure, perhaps, senders = set(), set(), {}
        for line in self.lines:
            sure.update(line.main_sent)
        for act in acts:
            if act.name != "produce":
                continue
            serials = [(act.line.number, act.sender, n) for n in range(act.most)]
            senders[act.sender] = act
            if act.log is None or "sent" not in act.log:
                if act.began or act.log:
                    perhaps.update(serials)
                continue
            least, most = act.log["sent"]
            into = perhaps if act.orphans else sure
            into.update(serials[:least])
            perhaps.update(serials[least:most])
        unknown, slack, got = set(), 0, []
        for line in self.lines:
            got.append(("main", line, line.got))
            got += [("main", line, serials) for serials in line.each]
        for act in acts:
            if act.interrupted or act.name == "await_items":  # which cancels
                for line in getattr(act, "receives", ()):
                    line.returned = True
            if act.name == "relay" and (act.began or act.log):
                slack += act.log is None or act.log.get("error") is not None
            for line in getattr(act, "receives", ()):
                if act.log is None and act.began:
                    unknown.add(line)
            if act.log and act.log.get("each"):
                for line, many in zip(act.receives, act.log["each"], strict=True):
                    got += [(act, line, serials) for serials in many]
            if act.log and act.log.get("got"):
                line = act.receives[0] if len(act.receives) == 1 else None
                got.append((act, line, act.log["got"]))
        self.compare(sure, perhaps, senders, unknown, slack, got)

    def compare(self, sure, perhaps, senders, unknown, slack, got):
        seen = {}
        for who, line, serials in got:
            last = {}
            for serial in serials:
                if serial == "unbound":
                    continue
                need(serial not in seen, "item", serial, "came to", who, "and",
                     seen.get(serial))  # fmt: skip
                need(serial in sure or serial in perhaps, "item", serial, "was not sent")
                seen[serial] = who
                if line is None or serial[0] != line.number or line.returned:
                    continue  # it came by a relay, by one of several lines, or late
                before = last.get(serial[1], -1)
                need(before < serial[2], "item", serial, "came to", who, "after", before)
                last[serial[1]] = serial[2]
        leaky = {line for line in self.lines if line.dropped} | unknown
        for _ in self.lines:
            leaky |= {line for line in self.lines if line.relayed_to & leaky}
        leaky = {line.number for line in leaky}
        missing = sorted(s for s in sure if s not in seen and s[0] not in leaky)
        need(len(missing) <= slack, "lost:", missing, "of", len(sure))
