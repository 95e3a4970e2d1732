"""The playground as a person meets it: its command, its page in a browser, buttons that do what they say, its end."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import alive, descendants, stat
from raftkv.process.command import module
from tests.integration.browser import needs_chromium, page_at, picture, pictures

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0

TOUCHING = """[...document.querySelectorAll(".ring text")].filter((one) => one.textContent)
    .map((one) => [one.textContent, one.getBoundingClientRect()]).flatMap(([a, box], at, all) => all.slice(at + 1)
    .filter(([, other]) => box.left < other.right && other.left < box.right)
    .filter(([, other]) => box.top + 3 < other.bottom && other.top + 3 < box.bottom)
    .map(([b]) => `${a} / ${b}`))"""
"""Words of the picture whose boxes overlap; a box is three pixels higher than its letters."""


class Playing:
    """A playground that runs as its command."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        (home / "tmp").mkdir(exist_ok=True)
        command = module("raftkv", "lab", "playground", "--for", "10m", "--out", str(home), *options)
        environment = {**os.environ, "TMPDIR": str(home / "tmp")}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"http://(\S+)/#(\S+)", line):
                self.host, self.token = found.groups()
                return
        raise AssertionError(self.said)

    @property
    def url(self) -> str:
        return f"http://{self.host}/#{self.token}"

    def post(self, what: str, content: object, **headers: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} | headers
        return requests.post(f"http://{self.host}/{what}", json=content, headers=headers, timeout=PATIENCE_S)

    def fault(self, kind: str, *places: str, on: bool, delay_ms: int = 300) -> None:
        answer = self.post("fault", {"kind": kind, "places": places, "on": on, "delay_ms": delay_ms})
        assert answer.status_code == 200, answer.text

    def processes(self, node: str) -> set[int]:
        """The processes of a node: one that was started for it, and its children."""
        for pid in descendants(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"--id" in words and words[words.index(b"--id") + 1] == node.encode():
                return descendants(pid)
        return set()

    def frames(self, limit_s: float = PATIENCE_S):
        """What pages are told, as it comes."""
        headers = {"Authorization": f"Bearer {self.token}"}
        end_s = time.monotonic() + limit_s
        with requests.get(f"http://{self.host}/live", headers=headers, stream=True, timeout=PATIENCE_S) as answer:
            for line in answer.iter_lines():
                found = requests.models.complexjson.loads(line)
                if "play" in found:
                    yield found
                assert time.monotonic() < end_s, found.get("play")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


@contextmanager
def playing(home: Path, *options: str, kept: bool = False):
    """``kept``: others use its temporary directory."""
    playground = Playing(home, *options)
    try:
        yield playground
    finally:
        family = descendants(playground.process.pid)
        status = playground.end() if playground.process.poll() is None else 0
        assert status == 0
        assert not alive(family)
        assert kept or list((home / "tmp").iterdir()) == []


@pytest.fixture(scope="module")
def raft_play(tmp_path_factory):
    with playing(tmp_path_factory.mktemp("play")) as playground:
        yield playground


@needs_chromium
def test_a_lesson_is_followed_by_clicks_and_what_it_says_is_to_be_seen(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        assert raft_play.token not in page.url, "the token does not stay where it is seen"
        expect(page.get_by_role("heading", level=1)).to_contain_text("leads")
        expect(page.locator(".see .seen")).to_have_count(3)
        expect(page.locator(".said")).not_to_have_class("said bad")

        page.get_by_role("button", name="Lesson 2: Cut off the leader").click()
        button = page.locator(".try button.main")
        node = button.inner_text().removeprefix("Cut off ")
        button.click()
        expect(page.locator(".see .seen")).to_have_count(4)
        row = page.locator(".beside tbody tr", has=page.get_by_text(node, exact=True))
        expect(row.locator(".warn")).to_contain_text("behind, overwritten")
        expect(row.locator(".refused")).to_contain_text("refused")
        expect(page.locator(".said")).to_have_class("said warn")
        picture(page, "playground")
        button.click()
        expect(page.locator(".see .seen")).to_have_count(5)
        expect(row.locator(".good")).to_have_count(2)


@needs_chromium
def test_a_click_on_the_picture_cuts_and_mends(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        link = page.get_by_role("button", name="Cut the link of n1 and n2")
        link.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".lead")).to_contain_text("nothing passes between n1 and n2")
        expect(page.locator(".ring .severed")).to_have_count(1)
        page.get_by_role("button", name="Cut off n3", exact=True).first.click()
        expect(page.locator(".ring .severed")).to_have_count(3)
        page.get_by_role("button", name="Heal all").click()
        expect(page.locator(".lead")).to_contain_text("Nothing is broken")
        expect(page.locator(".ring .severed")).to_have_count(0)


@needs_chromium
def test_a_write_that_the_leader_alone_acknowledged_is_lost_and_red(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        page.get_by_role("button", name="Lesson 5: Acknowledged, and lost").click()
        page.locator(".try button.main").click()
        expect(page.locator(".see .seen")).to_have_count(1)
        page.locator(".try button.main").click()
        expect(page.locator(".see .seen")).to_have_count(2)

        expect(page.locator(".said")).to_have_class("said bad")
        expect(page.locator(".harm")).to_contain_text("was acknowledged by the leader alone, and it is gone")
        expect(page.locator(".findings li").first).to_have_class("good")


@needs_chromium
def test_a_node_that_lost_its_disk_is_given_all_data_anew(raft_play, browser):
    (config,) = (raft_play.home / "tmp").glob("*/cluster.toml")
    with page_at(browser, raft_play.url) as page:
        page.get_by_role("button", name="Lesson 6: Lose a disk").click()
        button = page.locator(".try button.main")
        node = button.inner_text().removeprefix("Empty the disk of ")
        before = raft_play.processes(node)
        button.click()
        expect(page.locator(".lead")).to_contain_text(f"{node} is without its disk")
        wait_until(lambda: not alive(before), "its processes to be gone")
        wait_until(lambda: not (config.parent / "data" / node).exists(), "its disk to be empty")
        expect(page.get_by_role("button", name=f"Kill {node}")).to_be_disabled()
        expect(page.locator(".see .seen")).to_have_count(1)
        button.click()
        expect(page.locator(".see .seen")).to_have_count(3)


@needs_chromium
def test_what_was_broken_is_in_the_timeline_of_a_page_that_comes_later(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        raft_play.fault("slow", "n1", "n3", on=True, delay_ms=50)
        raft_play.fault("slow", "n1", "n3", on=False)
        page.reload()
        expect(page.locator(".time canvas")).to_have_attribute("aria-label", re.compile("slow between n1 and n3"))


@needs_chromium
def test_two_people_and_a_cart(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        page.get_by_role("button", name="Each just writes it back").click()
        expect(page.locator(".conclusion")).to_contain_text("milk was acknowledged, and is not there")
        page.get_by_role("button", name="Each writes only if nothing changed").click()
        expect(page.locator(".conclusion")).to_contain_text("Nothing is missing")


@needs_chromium
def test_what_was_played_is_saved_as_a_run_and_its_report_opens(raft_play, browser):
    with page_at(browser, raft_play.url) as page:
        page.get_by_role("button", name="Save this run").click()
        link = page.get_by_role("link", name="Open its report")
        link.wait_for(timeout=60_000)
        with page.context.expect_page() as opened:
            link.click()
        expect(opened.value.get_by_role("heading", level=1)).to_contain_text("playground")

    (folder,) = raft_play.home.glob("lab-playground-*")
    assert {"run.json", "report.html", "results.json"} <= {path.name for path in folder.iterdir()}


@needs_chromium
def test_pictures_of_a_playground(raft_play, browser):
    pictures(browser, raft_play.url, "playground", ".said")


@needs_chromium
@pytest.mark.parametrize("size", ["phone", "wide"])
def test_the_buttons_that_break_nodes_are_even(raft_play, browser, size):
    with page_at(browser, raft_play.url, size=size) as page:
        buttons = page.get_by_role("group", name="Break nodes").get_by_role("button")
        expect(buttons).to_have_count(15)
        for name in ("Slow n2", "Cut off n3"):
            page.get_by_role("button", name=name, exact=True).first.click()
        expect(page.locator(".faults .on")).to_have_count(2)
        boxes = [one.bounding_box() for one in buttons.all()]
        cut = buttons.evaluate_all("all => all.filter((one) => one.scrollWidth > one.clientWidth).length")
    raft_play.post("heal", {})

    assert {round(box["height"]) for box in boxes} == {32}
    assert max(box["width"] for box in boxes) - min(box["width"] for box in boxes) < 2
    assert cut == 0


def test_buttons_do_what_they_say_to_real_processes(raft_play):
    before = raft_play.processes("n2")
    assert len(before) > 1
    raft_play.fault("pause", "n2", on=True)
    wait_until(lambda: {stat(pid)[0] for pid in before} == {"T"}, "all of it to stand still")
    raft_play.fault("pause", "n2", on=False)
    wait_until(lambda: not {stat(pid)[0] for pid in before} & {"T"}, "all of it to go on")
    raft_play.fault("kill", "n2", on=True)
    assert not alive(before)
    raft_play.fault("kill", "n2", on=False)
    after = raft_play.processes("n2")
    assert after
    assert not after & before

    raft_play.fault("cut", "n3", on=True)
    for frame in raft_play.frames():
        stale = [mark for mark in frame["marks"] if mark[2] == "n3" and mark[10] == "stale"]
        if stale:
            break
    raft_play.fault("slow", "n1", "n2", on=True, delay_ms=50)
    assert [fault["kind"] for fault in frame["play"]["faults"]] == ["cut"]
    assert raft_play.post("heal", {}).status_code == 200
    for frame in raft_play.frames():
        if not frame["play"]["faults"]:
            break
    assert frame["play"]["score"]["contradictions"] == frame["play"]["score"]["lost"] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"kind": "cut", "places": ["n9"], "on": True}, "no node"),
        ({"kind": "kill", "places": ["n1", "n2"], "on": True}, "not to a link"),
        ({"kind": "burn", "places": ["n1"], "on": True}, "burn"),
    ],
)
def test_what_makes_no_sense_is_refused(raft_play, content, words):
    answer = raft_play.post("fault", content)

    assert answer.status_code == 400
    assert words in answer.json()["detail"]


def test_nobody_else_breaks_anything(raft_play):
    order = {"kind": "kill", "places": ["n1"], "on": True}
    assert raft_play.post("fault", order, Authorization="Bearer guessed").status_code == 401
    assert raft_play.post("fault", order, Host="evil.example").status_code == 421
    assert raft_play.post("fault", order, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert raft_play.post("fault", order, Origin="http://127.0.0.1:1").status_code == 403
    assert requests.get(f"http://{raft_play.host}/live", timeout=10).status_code == 401
    assert requests.get(f"http://{raft_play.host}/report/guessed", timeout=10).status_code == 404
    assert raft_play.processes("n1")


@needs_chromium
def test_without_a_leader_one_copy_is_enough_for_a_write_and_reads_are_stale(tmp_path, browser):
    options = ("--mode", "quorum", "--w", "1", "--r", "1", "--siblings")
    with playing(tmp_path, *options) as playground, page_at(browser, playground.url) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("Nobody leads, all answer")
        page.get_by_role("button", name="Lesson 2: Cut off a node").click()
        page.locator(".try button.main").click()
        expect(page.locator(".findings .warn")).to_contain_text("Stale R=1 reads")
        page.get_by_role("button", name="Each says what it replaces").click()
        expect(page.locator(".conclusion")).to_be_visible()


@needs_chromium
def test_no_words_of_five_nodes_touch_each_other(tmp_path, browser):
    """All that the picture can say at once: every link cut, and the longest words beneath and above nodes."""
    with playing(tmp_path, "--nodes", "5") as playground, page_at(browser, playground.url) as page:
        nodes = [f"n{number}" for number in range(1, 6)]
        for node in ("n2", "n5"):
            playground.fault("cut", node, on=True)
        expect(page.locator(".ring .state", has_text="behind by")).to_have_count(2)
        assert page.evaluate(TOUCHING) == []
        assert playground.post("heal", {}).status_code == 200
        for node, other in itertools.combinations(nodes, 2):
            playground.fault("cut", node, other, on=True)
        expect(page.locator(".ring .badge")).to_have_count(10)
        expect(page.locator(".ring .centre")).to_have_text("nobody leads")
        expect(page.locator(".ring .state")).to_have_count(5)
        assert page.evaluate(TOUCHING) == []
        for node in nodes:
            playground.fault("lose", node, on=True)
        expect(page.locator(".ring .badge")).to_have_count(15)
        assert page.evaluate(TOUCHING) == []


def test_what_a_killed_playground_leaves_is_removed_by_the_next_and_nothing_of_one_that_lives(tmp_path):
    temporary = tmp_path / "tmp"
    with playing(tmp_path, kept=True) as living:
        (alone,) = temporary.iterdir()
        killed = Playing(tmp_path)
        family = descendants(killed.process.pid)
        killed.process.kill()
        killed.process.wait()
        wait_until(lambda: not alive(family), "the nodes of who was killed to end", PATIENCE_S)
        left = set(temporary.iterdir()) - {alone}
        assert len(left) == 1
        with playing(tmp_path, kept=True):
            assert left.isdisjoint(temporary.iterdir())
            assert alone in temporary.iterdir()
        assert living.processes("n1")
    assert list(temporary.iterdir()) == []


@needs_chromium
def test_the_page_of_a_node_says_how_to_make_one_like_it_which_ends_with_whoever_started_it(
    raft_play, browser, tmp_path
):
    (tmp_path / "tmp").mkdir()
    (config,) = (raft_play.home / "tmp").glob("*/cluster.toml")
    node = tomllib.loads(config.read_text())["node"][0]["http"]
    requests.put(f"http://{node}/kv/greeting", data="hello", timeout=PATIENCE_S).raise_for_status()
    with page_at(browser, f"http://{node}/ui") as page:
        program, *words = page.locator(".command code").first.inner_text().split()
    assert (program, words[-1]) == ("raftkv", f"http://{node}")
    command = shlex.join(module(program, *words)) + " & wait"
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    shell = subprocess.Popen(
        ["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        said = [next(line for line in shell.stdout if words in line) for words in ("in raft mode", "copied", "http://")]
        family = descendants(shell.pid)
    finally:
        shell.kill()
        shell.wait()
    assert said[:2] == ["starting 3 nodes in raft mode ...\n", "1 key copied\n"]
    wait_until(lambda: not alive(family), "everything to end", PATIENCE_S)

    assert list((tmp_path / "tmp").iterdir()) == []
