# Data set runs on Ray: the numbers of a local run to the bit, whatever happens on the way.
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from ray_jobs import NoSpaceError, StubJob, processes, wait_for
from refused import refused

from captum_infomask import load_run
from captum_infomask.dataset_run import on_ray, ray_session
from captum_infomask.dataset_run.on_ray import _Deadly, _Failure, _ShardWorker, run_on_ray
from captum_infomask.dataset_run.shards import begin_shard, remove_leftovers

pytestmark = pytest.mark.slow

pytest.importorskip("ray.data")
_TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def found(folder):
    """What a process of its own found; it leaves no other process."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("processes are found by their environment in /proc")
    # jsonschema, which each of Ray's processes imports, takes seconds for this where it is there.
    (folder / "absent").mkdir()
    (folder / "absent" / "rfc3987_syntax.py").write_text("raise ImportError\n")
    path = [folder / "absent", _TESTS, _TESTS.parent, _TESTS.parent / "examples" / "benchmarks"]
    mark = uuid.uuid4().hex
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "MARK": mark}
    environment.pop("RAY_ADDRESS", None)
    environment["PYTHONWARNINGS"] = "ignore:More than half of the regions"  # of a random network
    ended = subprocess.run(
        [sys.executable, str(_TESTS / "ray_runs.py"), str(folder), mark],
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    # Of Ray Data's own actors; the Ray that we start is kept from saying so.
    usual = "constructor arguments in the object store"
    assert [line for line in ended.stderr.splitlines() if usual not in line] == []
    assert ended.returncode == 0
    wait_for(lambda: not processes(mark), 20)
    return json.loads((folder / "found.json").read_text())


def rows(folder):
    """Every column but the seconds."""
    return load_run(folder).table.drop_columns(["seconds"])


def test_a_run_whose_worker_is_killed_ends_with_the_bytes_of_a_local_one(found, folder):
    local, ray = rows(folder / "local"), rows(folder / "ray")
    assert len(local) == 60
    assert len(set(local.column("total").to_pylist())) > 50
    assert local.column("error").null_count == 60
    assert ray.equals(local)
    assert sorted(file.name for file in (folder / "ray").glob("part-*.parquet")) == [
        f"part-{shard:05}.parquet" for shard in range(15)
    ]
    assert found["killed"]["loaded"] == 3  # two workers, and the one in the killed one's place


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_ray_that_started_by_itself_ends_with_the_run(found, how):
    assert found[how]["processes"] == 0
    assert found[how]["initialised"] is False
    assert found[how]["environment"] == []
    assert found[how]["sigterm"] is True


def test_an_interrupt_arrives_and_stops_the_workers(found, folder):
    assert found["interrupted"]["caught"] is True
    assert found["interrupted"]["running"] > 3
    assert 0 < len(list((folder / "interrupted").glob("shard-*"))) < 20


def test_a_run_moves_to_a_cluster_and_back_after_the_death_of_its_process(found, folder):
    assert 3 < found["moved"]["parts"] < 15
    assert rows(folder / "shared").equals(rows(folder / "local"))


def test_a_shard_that_kills_its_workers_stops_the_run(found):
    told = "Every worker that began the pictures '6.png' to '7.png' died of it (tried: 1)."
    assert found["deadly"]["words"].startswith(told)
    assert "part-00003.begun" in found["deadly"]["begun"]


def test_shards_are_told_as_they_finish_and_none_begins_after_the_end(found):
    assert sorted(found["deadly"]["done"]) == [0, 1, 2]  # two at a time, whichever ends first
    assert found["deadly"]["written"] < 10  # of 20: what a worker had been given, it may end


def test_the_users_ray_goes_on_as_it_was(found):
    assert found["users"] == {"initialised": True, "bars": True, "answers": 5}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """An actor of a job, without Ray: from a shard to what became of it."""
    store = SimpleNamespace(get=lambda held: held)
    monkeypatch.setattr(on_ray, "import_ray", lambda: store)
    held = [pickle.dumps(StubJob(tmp_path, fails=3))]
    # It changes them, in a process of its own.
    monkeypatch.setattr(on_ray.sys, "path", list(sys.path))
    monkeypatch.setattr(on_ray.torch, "set_num_threads", lambda _: None)
    actor = _ShardWorker(held, tmp_path, most=2, folder=os.getcwd(), path=sys.path)
    return lambda shard: pickle.loads(actor(pa.table({"shard": [shard]}))["outcome"][0].as_py())


def test_a_shard_is_begun_so_many_times_and_no_more(worker, tmp_path):
    begin_shard(tmp_path, 1)
    assert worker(1).shard == 1
    assert not list(tmp_path.glob("*.begun"))
    for _ in range(2):
        begin_shard(tmp_path, 1)
    assert worker(1) == _Deadly(1, 2)
    remove_leftovers(tmp_path)
    assert worker(1).pictures == 1


def test_an_exception_in_a_worker_arrives_as_itself(worker, monkeypatch):
    fakes = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 1}, exceptions=SimpleNamespace(RayError=KeyError)
    )
    monkeypatch.setattr(on_ray, "ray_session", lambda *_: nullcontext(fakes))
    monkeypatch.setattr(on_ray, "_outcomes", lambda *_: (worker(shard) for shard in range(5)))
    done = []
    with pytest.raises(NoSpaceError, match="no space for shard 3") as caught:
        run_on_ray(
            StubJob(Path()),
            range(5),
            address=None,
            workers=None,
            done=lambda found: done.append(found.shard),
        )
    assert done == [0, 1, 2]
    assert caught.value.needed == 17
    assert "raise NoSpaceError(shard, needed=17)" in str(caught.value.__cause__)


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(ray_session, "import_ray", None)
    run_on_ray(StubJob(Path()), [], address=None, workers=None, done=print)


@pytest.mark.parametrize("address", ["nowhere", "ray://host:10001", "host:port", "host:99999"])
def test_an_address_is_host_and_port(address):
    refused(("`address`", "host:port", address), lambda: _run(address))


@pytest.mark.parametrize(("listens", "says"), [(False, b""), (True, b""), (True, b"HTTP/1.1 ")])
def test_an_address_where_no_ray_answers_is_refused_soon(monkeypatch, listens, says):
    monkeypatch.setattr(ray_session, "_PATIENCE", 0.5)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        if says:
            threading.Thread(target=_say, args=(other, says)).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        start = time.monotonic()
        refused(("`address`", "no Ray answers", address), lambda: _run(address))
    assert time.monotonic() - start < 10


def _say(server, words):
    with server.accept()[0] as line:
        line.sendall(words)


def test_workers_have_a_gpu_each_and_no_numbered_one():
    refused(("`device` cuda", "'cuda:1'"), lambda: _run(None, device="cuda:1"))


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    refused(("`engine`", "pip install 'captum-infomask[ray]'"), lambda: _run(None))


def _run(address, device="cpu"):
    job = StubJob(Path(), device=device)
    run_on_ray(job, [0], address=address, workers=1, done=print)


def test_an_exception_that_cannot_travel_comes_as_what_it_says():
    class LocalError(Exception):
        pass

    travels = pickle.loads(_Failure(NoSpaceError(4, needed=2), "where").pickled())
    assert (type(travels.error), travels.error.needed) == (NoSpaceError, 2)
    stays = pickle.loads(_Failure(LocalError("too far"), "where").pickled())
    assert (type(stays.error), str(stays.error)) == (RuntimeError, "LocalError: too far")
    assert stays.trace == "where"
