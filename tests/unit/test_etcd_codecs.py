"""Messages of etcd's as protobuf and as JSON: against Google's own reader and writer, and against what is malformed."""

from __future__ import annotations

import enum
import inspect

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from raftkv.etcd import gateway_json, messages, operating, protobuf
from raftkv.etcd.schema import FieldKind, Message, shape_of

MESSAGES = [
    one
    for module in (messages, operating)
    for _, one in inspect.getmembers(module, inspect.isclass)
    if issubclass(one, Message) and one.__module__ == module.__name__
]
KINDS = descriptor_pb2.FieldDescriptorProto
TYPES = {
    FieldKind.BYTES: KINDS.TYPE_BYTES,
    FieldKind.STRING: KINDS.TYPE_STRING,
    FieldKind.BOOL: KINDS.TYPE_BOOL,
    FieldKind.INT64: KINDS.TYPE_INT64,
    FieldKind.UINT64: KINDS.TYPE_UINT64,
    FieldKind.UINT32: KINDS.TYPE_UINT32,
    FieldKind.ENUM: KINDS.TYPE_ENUM,
    FieldKind.MESSAGE: KINDS.TYPE_MESSAGE,
}
VALUES = {
    FieldKind.BYTES: some.binary(max_size=9),
    FieldKind.STRING: some.text(max_size=9).filter(
        lambda text: max(text, default="") <= "\ud7ff" or max(text) > "\udfff"
    ),
    FieldKind.BOOL: some.booleans(),
    FieldKind.INT64: some.integers(-(1 << 63), (1 << 63) - 1),
    FieldKind.UINT64: some.integers(0, (1 << 64) - 1),
    FieldKind.UINT32: some.integers(0, (1 << 32) - 1),
}


def _theirs():
    """Google's classes for the same table."""
    file = descriptor_pb2.FileDescriptorProto(name="table.proto", package="table", syntax="proto3")
    enums = {field.of for one in MESSAGES for field in shape_of(one) if field.kind is FieldKind.ENUM}
    for one in sorted(enums, key=lambda found: found.__name__):
        told = file.enum_type.add(name=one.__name__)
        for member in one:
            told.value.add(name=f"{one.__name__}_{member.name}", number=member.value)
    for one in MESSAGES:
        told = file.message_type.add(name=one.__name__)
        for field in shape_of(one):
            label = KINDS.LABEL_REPEATED if field.is_repeated else KINDS.LABEL_OPTIONAL
            added = told.field.add(name=field.name, number=field.number, type=TYPES[field.kind], label=label)
            if field.of is not None:
                added.type_name = f".table.{field.of.__name__}"
            if field.is_optional and field.kind is not FieldKind.MESSAGE:
                added.oneof_index = len(told.oneof_decl)
                told.oneof_decl.add(name=f"_{field.name}")
                added.proto3_optional = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        one: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"table.{one.__name__}")) for one in MESSAGES
    }


THEIRS = _theirs()


@some.composite
def instance(draw, message, depth=0):
    found = {}
    for field in shape_of(message):
        if field.kind is FieldKind.MESSAGE:
            if depth > 2:
                continue
            value = instance(field.of, depth + 1)
        elif field.kind is FieldKind.ENUM:
            value = some.sampled_from(list(field.of))
        else:
            value = VALUES[field.kind]
        if field.is_repeated:
            value = some.lists(value, max_size=3).map(tuple)
        found[field.attribute] = draw(some.one_of(some.just(field.zero), value))
    return message(**found)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=some.data())
def test_google_reads_what_is_written_and_writes_what_is_read(message, data):
    ours = data.draw(instance(message))

    theirs = THEIRS[message].FromString(protobuf.encode(ours))

    assert protobuf.decode(message, theirs.SerializeToString()) == ours
    assert gateway_json.decode(message, gateway_json.encode(ours)) == ours


@settings(max_examples=25, deadline=None)
@given(data=some.data())
def test_google_reads_the_json_that_is_written(data):
    ours = data.draw(instance(messages.PutRequest))

    theirs = json_format.Parse(gateway_json.encode(ours), THEIRS[messages.PutRequest]())

    assert protobuf.decode(messages.PutRequest, theirs.SerializeToString()) == ours


@settings(max_examples=300, deadline=None)
@given(some.binary(max_size=60), some.sampled_from([messages.TxnRequest, messages.WatchRequest, operating.Member]))
def test_whatever_comes_is_a_message_for_both_or_for_none(data, message):
    try:
        ours = protobuf.decode(message, data)
    except ValueError:
        return
    theirs = THEIRS[message].FromString(data)
    assert protobuf.decode(message, theirs.SerializeToString()) == ours


_GROUP, _GROUP_END = b"\x9b\x06", b"\x9c\x06"  # field 99
_OTHER, _OTHER_END = b"\x93\x06", b"\x94\x06"  # field 98


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(_GROUP + _GROUP_END, id="empty"),
        pytest.param(_GROUP + b"\x08\x96\x01\x12\x01a\x1d1234\x2112345678" + _GROUP_END, id="of every kind"),
        pytest.param(_GROUP + _OTHER + _GROUP + _GROUP_END + _OTHER_END + _GROUP_END, id="of groups"),
    ],
)
def test_groups_are_passed_over_as_any_field_that_is_not_known(group):
    known = messages.PutRequest(key=b"k", lease=7)
    data = group + protobuf.encode(known) + group

    assert THEIRS[messages.PutRequest].FromString(data).lease == 7
    assert protobuf.decode(messages.PutRequest, data) == known


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_GROUP, id="no end"),
        pytest.param(_GROUP_END, id="no beginning"),
        pytest.param(_GROUP + _OTHER_END, id="the end of another"),
        pytest.param(_GROUP + _OTHER + _GROUP_END + _OTHER_END, id="crossed"),
        pytest.param(_GROUP + b"\x12\x05a" + _GROUP_END, id="a field that is cut off"),
        pytest.param(_GROUP + b"\x0f" + _GROUP_END, id="a way that nobody uses"),
        pytest.param(_GROUP * 100_000 + _GROUP_END * 100_000, id="too deep"),
        pytest.param(b"\x0b\x0c", id="a known field"),
    ],
)
def test_groups_that_are_none_are_refused(data):
    with pytest.raises(ValueError, match=r"cut off|a group ends|too deep|written"):
        protobuf.decode(messages.PutRequest, data)


def test_messages_stand_only_so_deep_in_each_other():
    request = messages.TxnRequest()
    for _ in range(40):
        request = messages.TxnRequest(success=(messages.RequestOp(request_txn=request),))

    with pytest.raises(ValueError, match="too deep"):
        protobuf.decode(messages.TxnRequest, protobuf.encode(request))
    with pytest.raises(gateway_json.GatewayError, match="depth"):
        gateway_json.decode(messages.TxnRequest, gateway_json.encode(request))


@pytest.mark.parametrize("spelled", ["prev_kv", "prevKv"])
def test_names_may_be_in_either_case_and_numbers_may_be_text(spelled):
    body = f'{{"{spelled}": true, "lease": "7", "unheard_of": [1]}}'.encode()

    assert gateway_json.decode(messages.PutRequest, body) == messages.PutRequest(prev_kv=True, lease=7)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "unexpected EOF"),
        (b"[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        (b'{"key": "a*bc"}', "illegal base64 data at input byte 1"),
        (b'{"key": "abc"}', "illegal base64 data at input byte 0"),
        (b'{"key": 5}', "json: cannot unmarshal number into Go value of type []uint8"),
        (b'{"lease": 1.5}', "json: cannot unmarshal number into Go value of type int64"),
        (b'{"lease": "9223372036854775808"}', "json: cannot unmarshal string into Go value of type int64"),
        (b'{"prev_kv": 1}', "json: cannot unmarshal number into Go value of type bool"),
    ],
)
def test_what_is_no_message_is_told_as_etcd_tells_it(body, told):
    with pytest.raises(gateway_json.GatewayError) as error:
        gateway_json.decode(messages.PutRequest, body)

    assert str(error.value) == told


def test_every_field_of_a_message_has_a_number_of_its_own():
    for one in MESSAGES:
        numbers = [field.number for field in shape_of(one)]
        assert len(set(numbers)) == len(numbers), one
        assert all(isinstance(field.of, type(enum.IntEnum)) for field in shape_of(one) if field.kind is FieldKind.ENUM)
