from ctxlib.log_limit import LogLimit


def lines(first, last):
    return "".join(f"line {number:04d}\n" for number in range(first, last))


def test_the_middle_of_a_flood_is_left_out(tmp_path):
    log = tmp_path / "out"
    log.write_text("what was there before\n")
    limit = LogLimit(log, most=5000, kept=1000)
    with log.open("a") as writer:
        writer.write(lines(0, 400))
        writer.flush()
        limit.look()
        assert len(log.read_text()) == 22 + 4000
        writer.write(lines(400, 1000))
        writer.flush()
        limit.look()
        text = log.read_text()
        assert text.startswith("what was there before\nline 0000\n")
        assert text.endswith("line 0998\nline 0999\n")
        assert "0 MB of output are left out here: too much for a log\n" in text
        assert len(text) < 2200
        # Whoever writes goes on at the new end.
        writer.write("still there\n")
        writer.flush()
    assert log.read_text() == text + "still there\n"


def test_each_flood_counts_what_all_of_them_left_out(tmp_path):
    log = tmp_path / "out"
    limit = LogLimit(log, most=3 << 20, kept=1 << 20)
    for _ in range(2):
        with log.open("ab") as writer:
            writer.write(b"x" * (5 << 20))
        limit.look()
    text = log.read_text()
    assert text.count("left out") == 1
    assert " 8 MB of output" in text


def test_a_watcher_adds_lines_to_a_log_that_there_is(tmp_path):
    log = tmp_path / "out"
    limit = LogLimit(log)
    limit.look()
    limit.note("nobody reads this")
    assert not log.exists()
    log.touch()
    limit.note("something was ended")
    assert log.read_text().endswith(" something was ended\n")
