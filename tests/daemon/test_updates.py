"""Updates reach every follower in order."""

from daemon import updates
from daemon.updates import Hub


async def test_every_follower_gets_everything_in_order() -> None:
    hub = Hub()
    hub.publish({"n": 0})
    with hub.follow() as first, hub.follow() as second:
        for n in range(1, 4):
            hub.publish({"n": n})
        for follower in (first, second):
            got = []
            async for update in follower:
                got.append(update["n"])
                if len(got) == 3:
                    break
            assert got == [1, 2, 3]


async def test_one_too_far_behind_is_let_go_and_told() -> None:
    hub = Hub()
    with hub.follow() as follower:
        for n in range(updates.LONGEST_BACKLOG + 5):
            hub.publish({"n": n})
        got = [update["n"] async for update in follower]
    assert follower.lost
    assert got == list(range(updates.LONGEST_BACKLOG))
