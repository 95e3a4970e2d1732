"""What operators do in the console: sign in, see who holds what, move leadership and members, save backups."""

import json
import re
import threading
from contextlib import suppress

import pytest
import requests
from playwright.sync_api import expect

from raftkv.instruments.local.nodes import wait_until
from tests.integration.browser import needs_chromium, page_at, pictures
from tests.integration.processes import running
from tests.integration.test_users import ALICE, ROOT, GuardedCluster

pytestmark = [pytest.mark.integration, needs_chromium]


@pytest.fixture(scope="module")
def quorum(tmp_path_factory):
    with running(tmp_path_factory.mktemp("quorum"), mode="quorum") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with GuardedCluster(tmp_path_factory.mktemp("guarded")) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.make_alice()
        yield cluster


def sign_in(page, user, password):
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def confirm(page, action):
    page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()


def hold(cluster, path, **body):
    with suppress(requests.ConnectionError):  # who waits goes on until the cluster ends
        assert cluster.request("POST", "n1", path, json={"ttl": 600, **body}, timeout=700).status_code == 200


@pytest.fixture(scope="module")
def held(raft):
    """A lock and an election, each held by the first and wanted by a second."""
    hold(raft, "/locks/deploy", holder="first")
    hold(raft, "/elections/primary/campaign", value="db-1")
    waiting = [
        threading.Thread(target=hold, args=(raft, "/locks/deploy"), kwargs={"holder": "second", "wait": 600}),
        threading.Thread(
            target=hold, args=(raft, "/elections/primary/campaign"), kwargs={"value": "db-2", "wait": 600}
        ),
    ]
    for one in waiting:
        one.daemon = True
        one.start()


def test_it_says_who_holds_and_who_waits(raft, held, browser):
    with page_at(browser, raft.url("n2", "/ui#/locks")) as page:
        lock = page.get_by_role("region", name="Locks").get_by_role("row").nth(1)
        expect(lock.get_by_role("cell")).to_have_text([re.compile("deploy"), re.compile("first"), re.compile("second")])
        election = page.get_by_role("region", name="Elections").get_by_role("row").nth(1)
        expect(election.get_by_role("cell")).to_have_text(
            [re.compile("primary"), re.compile("^db-1 lease"), re.compile("^db-2 lease")]
        )


def test_a_leaderless_cluster_refuses_locks_in_its_own_words(quorum, browser):
    refusal = quorum.request("GET", "n1", "/locks").json()["detail"]
    with page_at(browser, quorum.url("n1", "/ui#/locks")) as page:
        expect(page.locator(".note")).to_contain_text(refusal[1:-1])


def test_what_needs_the_secret_of_the_cluster_is_known_before_a_click(raft, browser):
    with page_at(browser, raft.url(raft.leader(), "/ui#/operations")) as page:
        expect(page.locator(".note")).to_contain_text("only who proves to have the cluster's secret may")
        for name in ("Remove…", "Let it lead", "Download a backup"):
            expect(page.get_by_role("button", name=name).first).to_be_disabled()


def test_whoever_signs_in_as_root_may_change_the_cluster(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        expect(page.get_by_role("button", name="Download a backup")).to_be_enabled()
        expect(page.get_by_text("Nothing can be changed from here")).to_have_count(0)


def test_leadership_is_handed_over_once_that_is_confirmed(guarded, browser):
    leader = guarded.leader()
    other = next(node for node in guarded.nodes if node != leader)
    with page_at(browser, guarded.url(leader, "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        page.get_by_role("row", name=re.compile(f"^{other}")).get_by_role("button", name="Let it lead").click()
        expect(page.get_by_role("dialog")).to_contain_text(f"{leader} hands over to {other}")
        confirm(page, "Hand over")
        expect(page.get_by_role("row", name=re.compile(f"^{other}"))).to_contain_text("leader")
    assert guarded.leader() == other


def test_what_a_change_of_members_means_is_said_before_it_is_made(guarded, browser):
    leader = guarded.leader()
    other = next(node for node in guarded.nodes if node != leader)
    before = guarded.request("GET", leader, "/cluster/members").json()["members"]
    with page_at(browser, guarded.url(leader, "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        page.get_by_role("row", name=re.compile(f"^{other}")).get_by_role("button", name="Remove").click()
        expect(page.get_by_role("dialog")).to_contain_text("2 nodes vote then: a write needs 2, and 0 nodes may fail.")
        confirm(page, "Cancel")

        page.get_by_text("Add a member").click()
        page.get_by_label("Name").first.fill("n4")
        page.get_by_label("Address for clients").fill("127.0.0.1:1")
        page.get_by_label("Address for nodes").fill("nonsense")
        page.get_by_role("button", name="Go on").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("4 nodes vote then: a write needs 3, and 1 node may fail.")
        confirm(page, "Add")
        expect(page.locator(".toast.bad")).to_contain_text("Nothing was changed")
    after = guarded.request("GET", leader, "/cluster/members").json()["members"]
    assert [one["id"] for one in before] == [one["id"] for one in after]


REDRAWN = """import('/ui/picture.js').then(({onPicture}) => new Promise((done) => {
    let times = 0;
    const end = onPicture(() => (times += 1) === 3 && (end(), done()));
}))"""


def test_what_is_typed_outlives_what_is_drawn_anew(guarded, browser):
    with page_at(browser, guarded.url(guarded.leader(), "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        page.get_by_text("Add a member").click()
        name = page.get_by_label("Name").first
        name.fill("n4")
        page.evaluate(REDRAWN)
        expect(name).to_have_value("n4")
        expect(name).to_be_focused()


KEPT = """import('/ui/page.js').then(({fill, h}) => {
    const [place, kept] = [h("div"), h("div")];
    fill(place, h("p"), kept);
    fill(place, h("p"), h("div.row"), kept);
    return [...place.childNodes].map((one) => one === kept ? `kept ${one.className}` : one.className);
})"""


def test_what_a_page_keeps_is_not_made_over_into_what_comes_before_it(raft, browser):
    with page_at(browser, raft.url("n1", "/ui")) as page:
        assert page.evaluate(KEPT) == ["", "row", "kept "]


def test_one_permission_of_a_role_is_revoked(guarded, browser):
    guarded.request(
        "PUT",
        "n1",
        "/auth/roles/auditor",
        json={"permissions": [{"access": "read", "prefix": "a/"}, {"access": "read", "prefix": ""}]},
    )
    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        row = page.get_by_role("row", name=re.compile("^auditor"))
        expect(row.get_by_role("button", name="Revoke")).to_have_count(2)
        row.get_by_role("button", name="Revoke read keys that begin with “” of auditor").click()
        expect(page.get_by_role("dialog")).to_contain_text("Its users may no longer read keys that begin with “”")
        confirm(page, "Revoke")
        expect(row.get_by_role("button", name=re.compile("^Revoke"))).to_have_count(1)
    left = guarded.request("GET", "n1", "/auth/roles/auditor").json()["permissions"]
    assert [(one["access"], one["prefix"]) for one in left] == [("read", "a/")]


def test_a_backup_is_downloaded_by_the_browser_itself_and_no_address_has_the_token(guarded, browser, tmp_path):
    guarded.put("n1", "kept", b"in the backup")
    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        asked = []
        page.on("request", lambda request: asked.append((request.method, request.url)))
        with page.expect_download() as download:
            page.get_by_role("button", name="Download a backup").click()
        download.value.save_as(tmp_path / "backup")

        expect(page.get_by_role("heading", level=1)).to_have_text("Operations")
        expect(page.locator(".toast")).to_have_count(0)
    backup = guarded.url("n1", "/backup")
    assert [one for one in asked if one[1].startswith(backup)] == [("GET", backup), ("POST", backup)]
    assert re.fullmatch(r"raftkv-\d{4}(-\d\d){2}T\d\d-\d\d-\d\d\.backup", download.value.suggested_filename)
    assert "keys" in guarded.done("backup", "verify", str(tmp_path / "backup"))


def test_a_backup_that_is_refused_is_told_on_the_page(guarded, browser):
    problem = {"status": 429, "title": "Overloaded", "detail": "2 backups are being made already; try again later"}

    def refuse(route):
        if route.request.method == "POST":  # as when two others have begun since
            route.fulfill(status=429, content_type="application/problem+json", body=json.dumps(problem))
        else:
            route.continue_()

    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        page.route("**/backup", refuse)
        page.get_by_role("button", name="Download a backup").click()
        expect(page.locator(".toast.bad")).to_contain_text("2 backups are being made already")
        expect(page.get_by_role("heading", level=1)).to_have_text("Operations")

        page.unroute("**/backup")
        page.route("**/backup", lambda route: route.abort())
        page.get_by_role("button", name="Download a backup").click()
        expect(page.locator(".toast.bad").last).to_contain_text("does not answer")


def test_a_token_that_is_worth_nothing_any_more_leads_to_the_sign_in_and_saves_nothing(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        button = page.get_by_role("button", name="Download a backup")
        expect(button).to_be_visible()
        saved = []
        page.on("download", lambda download: saved.append(download.suggested_filename))
        page.evaluate("sessionStorage.setItem('raftkv-token', 'rkv1.x.y')")
        button.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        expect(page.get_by_role("form")).to_contain_text("The token is worth nothing: it is no token of this cluster.")
        expect(page.get_by_label("User")).to_have_value("root")
        expect(page.get_by_label("Password")).to_be_focused()
    assert saved == []


def test_a_wrong_password_is_told_and_typed_again(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui#/locks")) as page:
        form, password = page.get_by_role("form", name="Sign in"), page.get_by_label("Password")
        expect(page.get_by_label("User")).to_be_focused()
        expect(page.get_by_role("navigation")).to_be_hidden()
        sign_in(page, "root", "not this one")
        expect(form.get_by_role("alert")).to_have_text("There is no such user, or the password is another.")
        expect(page.get_by_label("User")).to_have_value("root")
        expect(password).to_be_focused()
        expect(password).to_have_value("")
        expect(password).to_have_attribute("aria-invalid", "true")
        expect(password).to_have_accessible_description("There is no such user, or the password is another.")

        page.keyboard.type(ROOT)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Locks and elections")
        expect(page.get_by_role("navigation")).to_be_visible()
        expect(page.locator("#main")).to_be_focused()
        assert page.evaluate("scrollY") == 0


def test_whoever_may_not_read_all_keys_is_led_to_those_that_are_his(guarded, browser):
    guarded.done("set", "a/mine", "hello", user="alice", password=ALICE)
    guarded.done("set", "others/key", "hidden")
    with page_at(browser, guarded.url("n1", "/ui#/keys")) as page:
        sign_in(page, "alice", ALICE)
        finder = page.get_by_role("region", name="Find keys")
        expect(finder.get_by_role("status")).to_contain_text("alice may not read all keys")
        finder.get_by_role("button", name="a/", exact=True).click()
        expect(finder).to_contain_text("mine")
        expect(page.get_by_role("searchbox")).to_have_value("a/")

        page.goto(guarded.url("n1", "/ui#/keys/others%2Fkey"))
        expect(page.locator(".detail .note")).to_contain_text("alice may not read the key")
        expect(page.locator(".detail")).not_to_contain_text("Nothing of its past")


def test_what_is_for_root_is_off_for_others_and_the_page_says_why(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui#/operations")) as page:
        sign_in(page, "alice", ALICE)
        expect(page.locator(".note")).to_have_text(
            "Nothing can be changed from here by alice: that is for users with the role root."
        )
        for name in ("Remove…", "Let it lead", "Download a backup"):
            expect(page.get_by_role("button", name=name).first).to_be_disabled()


def test_a_sign_in_that_nobody_answers_keeps_what_was_typed(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui")) as page:
        page.get_by_label("User").wait_for()
        page.route("**/auth/login", lambda route: route.abort())
        sign_in(page, "root", ROOT)
        expect(page.get_by_role("form").get_by_role("alert")).to_have_text("The node does not answer.")
        expect(page.get_by_label("Password")).to_have_value(ROOT)


def test_a_long_name_leaves_room_for_the_page_on_a_phone(guarded, browser):
    name = "somebody-with-a-long-name.of-a-department@of-an-organisation.exa"
    guarded.done("user", "add", name, "-", "--role", "root", said=f"{ALICE}\n")
    with page_at(browser, guarded.url("n1", "/ui#/operations"), size="phone") as page:
        sign_in(page, name, ALICE)
        expect(page.get_by_role("button", name="Sign out")).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_whoever_signs_in_while_nobody_leads_sees_that(guarded, browser):
    guarded.kill("n2")
    guarded.kill("n3")
    try:
        with page_at(browser, guarded.url("n1", "/ui")) as page:
            sign_in(page, "root", ROOT)
            expect(page.get_by_role("heading", level=1)).to_have_text("Nobody leads")
            expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            page.reload()
            expect(page.get_by_role("heading", level=1)).to_have_text("Nobody leads")
            expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    finally:
        guarded.start("n2")
        guarded.start("n3")
        guarded.wait_ready()


def test_alarms_name_whom_the_node_misses(raft, browser):
    leader = raft.leader()
    other = next(node for node in raft.nodes if node != leader)
    with page_at(browser, raft.url(leader, "/ui#/operations")) as page:
        expect(page.get_by_text(f"None that {leader} knows of.")).to_be_visible()
        raft.kill(other)
        expect(page.get_by_text(f"{other} cannot be reached from {leader}.")).to_be_visible()
        raft.start(other)
        expect(page.get_by_text(f"None that {leader} knows of.")).to_be_visible()
    raft.wait_ready()


def counted(cluster):
    """What the node says it was asked by clients."""
    lines = {"Accept": "application/x-ndjson"}
    with cluster.request("GET", "n1", "/cluster/live?traffic=1", headers=lines, stream=True, timeout=30) as answer:
        return next(told["traffic"] for told in map(json.loads, answer.iter_lines()) if "traffic" in told)


def test_what_a_page_is_refused_is_no_traffic(quorum, browser):
    """A cluster without a leader refuses what the page of locks asks for, every other second."""
    before = counted(quorum)
    with page_at(browser, quorum.url("n1", "/ui#/locks")) as page:
        for _ in range(3):
            with page.expect_response(lambda answer: "/locks" in answer.url and answer.status >= 400) as refused:
                pass
    quorum.get("n1", "nothing-there")
    after = wait_until(
        lambda: (now := counted(quorum)) and now["errors"].get("404", 0) > before["errors"].get("404", 0) and now,
        "the next count",
    )

    code = str(refused.value.status)
    assert after["errors"].get(code, 0) == before["errors"].get(code, 0)
    metrics = quorum.request("GET", "n1", "/metrics").text
    assert re.search(rf'raftkv_http_requests_total{{code="{code}",method="GET",route="/locks"}} [1-9]', metrics)
    assert "(pages)" not in metrics


def test_traffic_is_counted_without_the_pages_own(raft, browser):
    with page_at(browser, raft.url("n1", "/ui#/traffic")) as page:
        charts = page.locator(".columns section")
        expect(charts).to_have_count(4)
        expect(charts.nth(0).locator(".now")).to_contain_text("0.0 a second")
        for _ in range(20):
            raft.get("n1", "nothing-there")
        expect(charts.nth(3).locator(".now")).to_contain_text("404 not found")
        expect(charts.nth(1).locator(".now")).to_contain_text(re.compile(r"half within [\d.]+ ms"))


def test_who_is_no_user_signs_in_and_sees_what_its_rights_allow(guarded, browser):
    with page_at(browser, guarded.url("n1", "/ui#/keys/a%2Fkey")) as page:
        sign_in(page, "alice", "wrong")
        expect(page.get_by_role("alert").last).to_contain_text("password")
        sign_in(page, "alice", ALICE)
        page.get_by_role("button", name="Write it").click()
        page.get_by_label("Value", exact=True).fill("alice's")
        page.get_by_role("button", name="Review").click()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text("alice's")
        expect(page.locator(".history li")).to_have_count(1)

        page.goto(guarded.url("n1", "/ui#/operations"))
        expect(page.locator(".note").first).to_contain_text(re.compile("root", re.IGNORECASE))

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.evaluate("Object.keys(sessionStorage)") == []


def test_root_makes_roles_and_users(guarded, browser):
    with page_at(browser, guarded.url("n2", "/ui#/operations")) as page:
        sign_in(page, "root", ROOT)
        page.get_by_text("Let a role do more").click()
        role = page.locator("form").filter(has=page.get_by_label("Keys that begin with"))
        role.get_by_label("Role").fill("reader")
        role.get_by_label("read, write or both").fill("read")
        role.get_by_label("Keys that begin with").fill("shop/")
        role.get_by_role("button").click()
        confirm(page, "Make")
        expect(page.get_by_role("dialog")).to_contain_text("may read keys that begin with “shop/”")
        confirm(page, "Allow")
        expect(page.get_by_role("region", name="Roles")).to_contain_text("read keys that begin with “shop/”")

        page.get_by_text("Add or change a user").click()
        user = page.locator("form").filter(has=page.get_by_label("Roles, by commas"))
        user.get_by_label("Name").fill("bob")
        user.get_by_label("Password").fill("another long password")
        user.get_by_label("Roles, by commas").fill("reader")
        user.get_by_role("button").click()
        confirm(page, "Write")
        expect(page.get_by_role("region", name="Users")).to_contain_text("bob")
    login = {"user": "bob", "password": "another long password"}
    assert requests.post(guarded.url("n1", "/auth/login"), json=login, timeout=10).status_code == 200


def test_pictures_of_operations(raft, held, quorum, guarded, browser):
    pictures(browser, raft.url("n1", "/ui#/locks"), "locks", "table")
    pictures(browser, raft.url("n1", "/ui#/operations"), "operations", "table")
    pictures(browser, raft.url("n1", "/ui#/traffic"), "traffic", ".chart")
    pictures(browser, quorum.url("n1", "/ui#/operations"), "ring-operations", "table")
    pictures(browser, guarded.url("n1", "/ui"), "sign-in", "form")
