"""Ways to the source: encrypted, by a socket, refused; and what the role may see of others' transactions there."""

import json
import os
import pwd
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.extractor_harness import (
    LANDING,
    PASSWORD,
    ROLE,
    Bench,
    Place,
    Row,
    Running,
    Server,
    declared,
    incremental,
    newest,
    own_server,
)

CERTIFIED = "localhost"
WRONG = "another-password-that-nobody-prints"
Refused = dict[str, Running]
AT_ONCE = ("password authentication failed", "no encryption")
"""Refusals that no retry cures; the others may pass, or cannot be told from those that do."""
MARGIN = 1.1
"""Seconds: a window ends one second before now in any case."""


def own_certificate(server: Server) -> None:
    """Give the server a certificate of its own making for ``localhost``, in its data folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFIED)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CERTIFIED)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    no_passphrase = serialization.NoEncryption()
    texts = {
        "server.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "server.key": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_passphrase),
    }
    for file, content in texts.items():
        path = server.cluster.data / file
        path.touch(mode=0o600)
        path.write_bytes(content)
        if server.cluster.user:
            owner = pwd.getpwnam(server.cluster.user)
            os.chown(path, owner.pw_uid, owner.pw_gid)


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A folder as Cloud SQL names it; its name is short, because a socket's path is limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="cx") as folder:
        sockets = Path(folder) / "project:region:instance"
        sockets.mkdir()
        for each in (Path(folder), sockets):
            each.chmod(0o777)  # the server's user and this one are two
        yield sockets


@pytest.fixture(scope="module")
def server(sockets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It takes the extractor's connections over TCP only if they are encrypted."""
    with own_server(tmp_path_factory.mktemp("server"), unix_socket_directories=str(sockets)) as server:
        server.stop()
        own_certificate(server)
        rules = server.cluster.data / "pg_hba.conf"
        rules.write_text(f"hostnossl all {ROLE} all reject\n{rules.read_text()}")
        settings = server.cluster.data / "postgresql.auto.conf"
        settings.write_text(f"{settings.read_text()}ssl = on\n")
        server.start()
        yield server


@pytest.fixture(scope="module", autouse=True)
def refused(server: Server, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Refused]]:
    """Runs that the source refuses, by the reason. They are under way while the other tests run.

    What no retry cures fails at once; a server that cannot be reached is tried for some twenty seconds.
    """
    with place.bench(tmp_path_factory.mktemp("refused")) as bench:
        bench.declare(declared("big"))
        untrusted = {"POSTGRES_SSLMODE": "verify-full", "PGSSLROOTCERT": str(server.cluster.data / "server.crt")}
        cases = {
            "password authentication failed": {"POSTGRES_PASSWORD": WRONG},
            "Connection refused": {"POSTGRES_PORT": "1"},
            'does not match host name "127.0.0.1"': untrusted,
            "no encryption": {"POSTGRES_SSLMODE": "disable"},
        }
        runs = {
            reason: bench.start(STATE_SQLITE_PATH=str(bench.folder / f"{number}.sqlite"), **variables)
            for number, (reason, variables) in enumerate(cases.items())
        }
        yield bench, runs


def connections(bench: Bench) -> list[tuple[bool, str | None]]:
    """Of each connection of the extractor, whether it is encrypted, and the address that it comes from."""
    found = bench.database.rows(
        "SELECT s.ssl, host(a.client_addr) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
        " WHERE a.application_name = 'credix-extractor' ORDER BY a.backend_start"
    )
    return [(bool(ssl), address) for ssl, address in found]


def test_every_connection_is_encrypted_and_the_server_is_who_it_says(bench: Bench, server: Server) -> None:
    """The session's and the readers', which are of two client libraries, and both check the certificate."""
    bench.database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    trusted = str(server.cluster.data / "server.crt")
    for mode, variables in (
        ("require", {}),
        ("verify-full", {"POSTGRES_HOST": CERTIFIED, "PGSSLROOTCERT": trusted}),
    ):
        with bench.database.gate(2_000) as gate:
            running = bench.start(POSTGRES_SSLMODE=mode, EXTRACT_READERS="1", **variables)
            gate.wait()
            assert connections(bench) == [(True, "127.0.0.1"), (True, "127.0.0.1")]
        finished = running.finish()
        assert finished.exit_code == 0, finished.stderr
        assert newest([bench.only_batch()], "id") == bench.source("big")
        bench.merge()


def test_the_folder_of_a_socket_is_a_host(bench: Bench, sockets: Path) -> None:
    """As Cloud Run mounts Cloud SQL's."""
    bench.database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    with bench.database.gate(2_000) as gate:
        running = bench.start(POSTGRES_HOST=str(sockets), EXTRACT_READERS="1")
        gate.wait()
        assert connections(bench) == [(False, None), (False, None)]
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    assert newest([bench.only_batch()], "id") == bench.source("big")


def look(bench: Bench) -> tuple[Row, datetime]:
    """A dry run's answer for the table ``big``, and the source's time just before."""
    now = bench.database.value("SELECT clock_timestamp()")
    finished = bench.extract("--dry-run", "--table", "big", EXTRACT_SAFETY_LAG="600")
    [table] = json.loads(finished.stdout)["tables"]
    warned = [line["reason"] for line in finished.events("window.safety_lag")]
    return {**table, "high": datetime.fromisoformat(table["window_high"]), "warned": warned}, now


def test_a_window_ends_before_the_oldest_transaction_that_is_open_or_may_be(bench: Bench) -> None:
    """Of other users, prepared ones, and those that the role cannot see; not of the extractor's own reads."""
    database = bench.database
    database.paged_table("big", rows=7)
    database.paged_table("long", gated=True)
    bench.declare(incremental("big"), declared("long"))
    lag = timedelta(seconds=600)
    with database.gate(2_000) as gate:
        running = bench.start("--table", "long", EXTRACT_READERS="1")
        gate.wait()
        began = database.value("SELECT min(xact_start) FROM pg_stat_activity WHERE application_name <> ''")
        time.sleep(MARGIN)
        seen, now = look(bench)
        assert began < now - timedelta(seconds=1) <= seen["high"], (
            "a long read does not hold the windows of others back"
        )
        assert seen["warned"] == []
        running.kill()
    with database.connect(autocommit=False) as other:
        [(began,)] = other.execute("SELECT now()").fetchall()
        time.sleep(MARGIN)
        seen, now = look(bench)
        assert began - timedelta(milliseconds=1) < seen["high"] < began < now
        other.execute("INSERT INTO src.big SELECT 10001")
        other.execute("PREPARE TRANSACTION 'prepared'")
    try:
        prepared = database.value("SELECT prepared FROM pg_prepared_xacts")
        seen, now = look(bench)
        assert seen["high"] == prepared - lag, "when it began is not known"
    finally:
        database.run("ROLLBACK PREPARED 'prepared'")
    database.run(f"REVOKE pg_read_all_stats FROM {ROLE}")
    try:
        seen, now = look(bench)
    finally:
        database.run(f"GRANT pg_read_all_stats TO {ROLE}")
    assert now - lag - timedelta(seconds=5) < seen["high"] < datetime.now(UTC) - lag
    [reason] = seen["warned"]
    assert "GRANT pg_read_all_stats" in reason


def test_a_source_that_refuses_fails_the_run_and_the_log_says_why(refused: tuple[Bench, Refused]) -> None:
    bench, runs = refused
    for reason, running in runs.items():
        finished = running.finish()
        assert finished.exit_code == 1
        outcome = finished.outcome()
        assert outcome["outcome"] == "failed"
        assert reason in outcome["error"]
        [failed] = finished.events("extraction.failed")
        assert reason in failed["reason"]
        if reason in AT_ONCE:
            assert outcome["seconds"] < 10
        for secret in (PASSWORD, WRONG):
            assert secret not in finished.stdout + finished.stderr
    assert bench.objects(LANDING) == []
