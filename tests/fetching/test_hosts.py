"""Whose turn it is."""

import asyncio

from modiste.fetching.hosts import Hosts


def test_order_limits_and_closing():
    async def story():
        hosts = Hosts(2, None)
        for job in ("a1", "a2", "a3", "b1"):
            hosts.put(job[0], job)
        taken = [await hosts.take() for _ in range(3)]
        assert sorted(taken) == ["a1", "a2", "b1"]
        waiting = asyncio.create_task(hosts.take())
        await asyncio.sleep(0.01)
        assert not waiting.done()  # two of host a are out
        hosts.release("a")
        assert await waiting == "a3"
        assert hosts.waiting == 0
        waiting = asyncio.create_task(hosts.take())
        await asyncio.sleep(0)
        hosts.close()
        assert await waiting is None

    asyncio.run(story())


def test_a_pause_holds_for_jobs_that_were_in_line():
    async def story():
        clock = asyncio.get_running_loop().time
        hosts = Hosts(4, None)
        hosts.put("a", "a1")
        hosts.put("b", "b1")
        hosts.pause("a", 0.1)
        began = clock()
        assert await hosts.take() == "b1"
        assert await hosts.take() == "a1"
        assert clock() - began >= 0.1

    asyncio.run(story())


def test_a_shorter_pause_does_not_end_a_longer_one():
    async def story():
        clock = asyncio.get_running_loop().time
        hosts = Hosts(4, None)
        hosts.put("a", "a1")
        began = clock()
        hosts.pause("a", 0.1)
        hosts.pause("a", 0.001)
        assert await hosts.take() == "a1"
        assert clock() - began >= 0.1

    asyncio.run(story())


def test_delays_and_rates():
    async def story():
        clock = asyncio.get_running_loop().time
        hosts = Hosts(100, 50)
        began = clock()
        hosts.put("a", "late", 0.15)
        for k in range(4):
            hosts.put("a", k)
        assert [await hosts.take() for _ in range(4)] == [0, 1, 2, 3]
        assert clock() - began >= 3 / 50
        assert await hosts.take() == "late"
        assert clock() - began >= 0.15

    asyncio.run(story())


def test_hosts_that_are_done_are_forgotten():
    async def story():
        hosts = Hosts(1, None)
        for k in range(1000):
            hosts.put(f"host{k}", k)
            hosts.release(f"host{await hosts.take()}")
        assert len(hosts._hosts) <= 1
        hosts = Hosts(1, 50)
        for k in range(1000):
            hosts.put(f"host{k}", k)
            hosts.release(f"host{await hosts.take()}")
        await asyncio.sleep(0.1)
        assert len(hosts._hosts) <= 1

    asyncio.run(story())
