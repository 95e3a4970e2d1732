"""What the checker is held against: every order tried, straight from the definition, and histories to try it on.

It shares no code with the checker beyond the vocabulary: the effect of an action is written down a second time.
"""

from hypothesis import strategies as st

from raftkv.instruments.lab.history import (
    ANY,
    CompareAndSet,
    DeleteAction,
    GetAction,
    ObservedOperation,
    Outcome,
    PutAction,
)

VALUES = (b"a", b"b", b"c")


def is_explained(missing, state=None):
    """Can the operations be put in an order that respects time and explains every answer, from ``state`` on?"""
    if all(operation.outcome is not Outcome.OK for operation in missing):
        return True
    for operation in missing:
        rest = [other for other in missing if other is not operation]
        if operation.outcome is Outcome.FAILED or any(must_precede(other, operation) for other in rest):
            continue
        result, next_state = performed(operation.action, state)
        is_answer = operation.result == result and not operation.siblings
        is_true = operation.outcome is Outcome.UNKNOWN or is_answer or was_not_told(operation)
        if is_true and is_explained(rest, next_state):
            return True
    return False


def must_precede(one, other):
    return one.outcome is Outcome.OK and one.returned_ns < other.invoked_ns


def was_not_told(operation):
    return isinstance(operation.action, DeleteAction) and operation.result is None


def performed(action, state):
    """The result of ``action`` and the state after it."""
    if isinstance(action, GetAction):
        return state, state
    if isinstance(action, PutAction):
        return None, action.value
    if isinstance(action, DeleteAction):
        return state is not None, None
    is_expected = state is not None if action.expected == ANY else state == action.expected
    return is_expected, action.value if is_expected else state


values = st.sampled_from(VALUES)
actions = st.one_of(
    st.just(GetAction()),
    st.just(GetAction()),
    st.builds(PutAction, values),
    st.builds(PutAction, values),
    st.just(DeleteAction()),
    st.builds(CompareAndSet, st.sampled_from([*VALUES, None, ANY]), st.sampled_from([*VALUES, None])),
)


@st.composite
def arbitrary_histories(draw, max_size=7):
    """Operations whose answers came from anywhere: mostly contradictions."""
    return [draw(_operation(action)) for action in draw(st.lists(actions, min_size=1, max_size=max_size))]


@st.composite
def _operation(draw, action):
    invoked = draw(st.integers(0, 12))
    outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED]))
    results = {
        GetAction: st.sampled_from([*VALUES, None]),
        PutAction: st.none(),
        DeleteAction: st.sampled_from([True, False, None]),
        CompareAndSet: st.booleans(),
    }
    return ObservedOperation(
        client=draw(st.integers(1, 4)),
        key=b"k",
        action=action,
        invoked_ns=invoked,
        returned_ns=None if outcome is Outcome.UNKNOWN else invoked + draw(st.integers(0, 6)),
        outcome=outcome,
        result=draw(results[type(action)]) if outcome is Outcome.OK else None,
    )


@st.composite
def honest_histories(draw, max_size=7):
    """Answers of a real register; each operation takes effect at a moment within its interval, or later if unknown."""
    register, operations = None, []
    for moment, action in enumerate(draw(st.lists(actions, min_size=1, max_size=max_size))):
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED]))
        has_effect = outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and draw(st.booleans()))
        result, after = performed(action, register) if has_effect else (None, register)
        register = after
        operations.append(
            ObservedOperation(
                client=draw(st.integers(1, 4)),
                key=b"k",
                action=action,
                invoked_ns=max(0, 2 * moment - draw(st.integers(0, 7))),
                returned_ns=None if outcome is Outcome.UNKNOWN else 2 * moment + draw(st.integers(0, 7)),
                outcome=outcome,
                result=result if outcome is Outcome.OK else None,
            )
        )
    return operations


@st.composite
def bent_histories(draw, max_size=7):
    """Honest histories in which one answer was changed: the hardest to tell."""
    operations = draw(honest_histories(max_size))
    at = draw(st.integers(0, len(operations) - 1))
    honest = operations[at]
    if honest.outcome is Outcome.OK:
        operations[at] = draw(_operation(honest.action).filter(lambda other: other.outcome is Outcome.OK))
    return operations
