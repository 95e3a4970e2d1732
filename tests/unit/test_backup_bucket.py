"""Backups in a bucket, held against a server that speaks S3's protocol."""

import os

import pytest

from raftkv.backup.keeping import name_of
from raftkv.core.backups import BackupSection
from raftkv.core.errors import StartupError

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

from raftkv.backup.bucket import PART_BYTES, BackupBucket  # noqa: E402  an extra

AT_S = 1_800_000_000
SECRET = "a-key-that-must-not-be-told"


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch):
    """A client of a bucket that is empty."""
    for name, value in {"ACCESS_KEY_ID": "who", "SECRET_ACCESS_KEY": SECRET, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="backups")
    yield client
    boto3.resource("s3", endpoint_url=endpoint).Bucket("backups").objects.all().delete()
    client.delete_bucket(Bucket="backups")


def bucket(endpoint, cluster="c", **section):
    return BackupBucket(
        BackupSection(s3_bucket="backups", s3_prefix="kept/", s3_endpoint=endpoint, **section), cluster, "n1"
    )


def test_what_is_put_is_held_whole_and_can_be_removed(endpoint, s3, tmp_path):
    content = os.urandom(PART_BYTES + (1 << 20))
    (tmp_path / "draft").write_bytes(content)
    place, name = bucket(endpoint, "ü/1"), name_of("ü/1", "n1", AT_S)

    place.put(tmp_path / "draft", name)

    assert [(one.name, one.made_s, one.size_bytes) for one in place.held()] == [(name, AT_S, len(content))]
    assert s3.get_object(Bucket="backups", Key=f"kept/{name}")["Body"].read() == content
    assert bucket(endpoint, "other").held() == []
    place.remove(name)
    assert place.held() == []


def test_what_another_has_put_there_is_not_removed(endpoint, s3, tmp_path):
    name = name_of("c", "n1", AT_S)
    s3.put_object(Bucket="backups", Key=f"kept/{name}", Body=b"by hand")
    s3.put_object(Bucket="backups", Key="kept/monday.backup", Body=b"by hand")
    s3.put_object(Bucket="backups", Key=f"elsewhere/{name}", Body=b"by hand")
    place = bucket(endpoint)

    for one in place.held():
        place.remove(one.name)

    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="backups")["Contents"]]
    assert sorted(keys) == sorted([f"kept/{name}", "kept/monday.backup", f"elsewhere/{name}"])


def test_an_upload_that_was_cut_off_is_no_backup_and_is_ended_by_the_next_of_that_node(endpoint, s3, tmp_path):
    keys = [f"kept/{name_of('c', node, AT_S)}" for node in ("n1", "n2")] + ["kept/monday.backup"]
    for key in keys:
        begun = s3.create_multipart_upload(Bucket="backups", Key=key)
        s3.upload_part(Bucket="backups", Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * (5 << 20))
    place = bucket(endpoint)
    assert place.held() == []

    (tmp_path / "draft").write_bytes(b"content")
    place.put(tmp_path / "draft", name_of("c", "n1", AT_S + 1))

    left = [one["Key"] for one in s3.list_multipart_uploads(Bucket="backups")["Uploads"]]
    assert sorted(left) == sorted(keys[1:])
    assert len(place.held()) == 1


def test_what_goes_wrong_is_one_line_without_a_secret(endpoint, s3, tmp_path, monkeypatch):
    (tmp_path / "draft").write_bytes(b"content")
    missing = BackupBucket(BackupSection(s3_bucket="none-such", s3_endpoint=endpoint), "c", "n1")
    gone = BackupBucket(BackupSection(s3_bucket="backups", s3_endpoint="http://127.0.0.1:9"), "c", "n1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = bucket(endpoint)

    for place, told in ((missing, "s3://none-such/"), (gone, "127.0.0.1:9"), (nobody, "credentials")):
        with pytest.raises(StartupError) as raised:
            place.put(tmp_path / "draft", "name")
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)
        assert SECRET not in str(raised.value)
