"""Faults as values: what a gate lets pass, holds and forgets; time is a number here."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.peers.faults import Direction, Fault, FaultGate, LinkFaults


def test_no_fault_passes_the_very_same_list():
    gate, payloads = FaultGate(), [b"a", b"b"]

    assert gate.admit(payloads, Fault(), 0.0) is payloads
    assert gate.due_s is None


def test_dropped_messages_are_gone():
    gate = FaultGate()

    assert gate.admit([b"a"], Fault(drop=True), 0.0) == []
    assert gate.due_s is None
    assert gate.release(1e9) == []


def test_delayed_messages_pass_when_due():
    gate = FaultGate()
    gate.admit([b"a", b"bc"], Fault(delay_s=1.0), 10.0)

    assert gate.held_bytes == 3
    assert gate.release(10.9) == []
    assert gate.due_s == 11.0
    assert gate.release(11.0) == [b"a", b"bc"]
    assert gate.held_bytes == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.5, 2.0])), max_size=30))
def test_no_message_overtakes_another_however_the_delay_changes(steps):
    gate, passed, now_s = FaultGate(), [], 0.0
    for number, (pause_s, delay_s) in enumerate(steps):
        now_s += pause_s
        passed += gate.release(now_s)
        passed += gate.admit([number.to_bytes(2, "big")], Fault(delay_s=delay_s), now_s)
    passed += gate.release(now_s + 10)

    assert passed == [number.to_bytes(2, "big") for number in range(len(steps))]


def test_faults_are_by_peer_and_direction_and_can_be_taken_back():
    faults, changes = LinkFaults(), []
    faults.on_change = lambda: changes.append(faults.active)
    faults.set("n2", Fault(drop=True), Direction.TO_PEER)

    assert faults.fault("n2", Direction.TO_PEER).drop
    assert not faults.fault("n2", Direction.FROM_PEER).drop
    assert not faults.fault("n3", Direction.TO_PEER).drop

    faults.set("n2", Fault())
    assert changes == [True, False]


def test_a_cut_in_either_direction_cuts():
    faults = LinkFaults()
    faults.set("n2", Fault(cut=True), Direction.FROM_PEER)

    assert faults.is_cut("n2")
    assert not faults.is_cut("n3")
    faults.clear()
    assert not faults.is_cut("n2")
