"""What warps tell each other: named barriers and mbarriers, and copies that complete the latter.

A signal completes again and again. Its n-th completion comes when each of its parties has arrived n times, `delay`
cycles after the last of them. Rings of stages need no more: the n-th wait for a full stage is for the n-th copy, the
n-th copy waits for the (n - stages)-th release.
"""


class Signal:
    def __init__(self, name, parties, delay, ahead=0):
        """`ahead`: completions that are there at the start, as of stages that nobody has filled."""
        self.name = name
        self.delay = delay
        self.ahead = ahead
        self.arrivals = {party: [] for party in parties}

    def arrive(self, party, time):
        self.arrivals[party].append(time)

    def time(self, n):
        """When completion n (from 0) comes, or None as long as somebody is missing."""
        n -= self.ahead
        if n < 0:
            return 0
        latest = 0
        for times in self.arrivals.values():
            if len(times) <= n:
                return None
            latest = max(latest, times[n])
        return latest + self.delay


class Link:
    """The way into shared memory: a copy arrives `latency` after its issue, and no sooner than `rate` allows."""

    def __init__(self, latency, rate):
        self.latency, self.rate = latency, rate
        self.last = 0

    def copy(self, time, size):
        self.last = max(time + self.latency, self.last + size / self.rate)
        return self.last


class Producer:
    """A warp that copies: a list of (signal to wait for or None, signals that the copy completes, bytes).

    Without bytes it only waits. It has a sub-core's issue slots to itself: its instructions are few.
    """

    def __init__(self, copies, link, cycles):
        self.copies, self.link, self.cycles = copies, link, cycles
        self.done, self.time, self.waited = 0, 0, {}

    def advance(self):
        """Issues all copies whose time is known. True if there were any."""
        before = self.done
        while self.done < len(self.copies):
            awaited, completed, size = self.copies[self.done]
            time = self.time
            if awaited:
                n = self.waited.get(awaited.name, 0)
                free = awaited.time(n)
                if free is None:
                    break
                self.waited[awaited.name] = n + 1
                time = max(time, free)
            self.time = time + (self.cycles if size else 0)
            arrival = self.link.copy(self.time, size) if size else time
            for signal in completed:
                signal.arrive("producer", arrival)
            self.done += 1
        return self.done > before
