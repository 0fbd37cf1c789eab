"""What the images promise: own packages by hash, own code, no root, a process that gets SIGTERM. Nothing is built."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BASE = "python:3.11-slim"


@dataclass(frozen=True)
class Image:
    """What an image may hold."""

    lock: str
    code: frozenset[str]
    runs: str
    """The module or file that the container starts with."""


_CORE = frozenset({"config/tables.yaml", "services/__init__.py", "services/core"})
_BUILDS_WITH = "--from=packages /venv /venv"
"""What the stage of the code may take besides: to run it while the image is built."""

IMAGES = {
    "services/extractor/Dockerfile": Image("extractor", _CORE | {"services/extractor"}, "services.extractor"),
    "services/loader/Dockerfile": Image("loader", _CORE | {"services/loader"}, "services/loader/main.py"),
    "services/transformer/Dockerfile": Image(
        "transformer", _CORE | {"services/transformer", "dbt"}, "services/transformer/main.py"
    ),
    "local/warehouse/Dockerfile": Image("local", _CORE | {"local"}, "local.warehouse"),
}


def stages(text: str) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as (keyword, rest); comments and line breaks taken out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    instructions = [line.strip().split(maxsplit=1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for keyword, rest in instructions:
        if keyword == "FROM":
            found.append([])
        found[-1].append((keyword, " ".join(rest.split())))
    return found


def problems(text: str, image: Image) -> list[str]:
    """What a Dockerfile does not keep."""
    found = []
    packages, code, final = stages(text)
    if [stage[0][1].split(" AS ")[0] for stage in (packages, code, final)] != [BASE] * 3:
        found.append(f"another base than {BASE}")
    if re.search(r"://|--mount|--(?:extra-)?index|--find|ADD |:latest", text):
        found.append("an address, a mount or an ADD")

    lock, install = packages[1:3]
    if lock != ("COPY", f"requirements/{image.lock}.txt /requirements.txt"):
        found.append("the lock file is not what comes first")
    pip = [step for step in install[1].split(" && ") if " install " in step]
    if len(pip) != 1 or not pip[0].endswith("--require-hashes -r /requirements.txt"):
        found.append("packages come from elsewhere than the lock file, or without hashes")
    if "--without-pip" not in install[1]:
        found.append("pip is in the image")

    taken = [rest for keyword, rest in code if keyword == "COPY"]
    copied = {source for rest in taken if rest != _BUILDS_WITH for source in rest.split()[:-1]}
    if copied != image.code:
        found.append(f"code that differs by {sorted(copied ^ image.code)}")
    copies = [rest for keyword, rest in final if keyword == "COPY"]
    if any(not rest.startswith("--from=") for rest in copies) or "RUN" in dict(final):
        found.append("the final stage takes or makes files of its own")
    if copies[0] != "--from=packages /venv /venv" or "--from=code /app /app" not in copies:
        found.append("the layers that change least are not first")

    users = [rest for keyword, rest in final if keyword == "USER"]
    if len(users) != 1 or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0]):
        found.append("the user is root, or not numeric")
    started = [rest for keyword, rest in final if keyword in ("CMD", "ENTRYPOINT")]
    try:
        [command] = map(json.loads, started)
    except ValueError:
        return [*found, "the process is not given as one list"]
    if command[:2] != ["python", "-m"] or image.runs not in command:
        found.append(f"{command} does not start {image.runs}")
    return found


@pytest.mark.parametrize("path", IMAGES)
def test_an_image_keeps_what_it_promises(path: str) -> None:
    assert problems((REPOSITORY / path).read_text(), IMAGES[path]) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" --require-hashes", ""),
        ("requirements/loader.txt", "requirements/dev.txt"),
        ("-r /requirements.txt", "-r /requirements.txt requests"),
        ("USER 10001:10001", ""),
        ("USER 10001:10001", "USER 0:0"),
        ("USER 10001:10001", "USER nobody"),
        ("FROM python:3.11-slim AS code", "FROM python:3.11 AS code"),
        ("COPY services/core ", "COPY services/extractor /app/services/extractor\nCOPY services/core "),
        ("COPY services/core /app/services/core", ""),
        ("COPY services/core /app/services/core", "COPY services /app/services"),
        ("USER", "COPY tests /app/tests\nUSER"),
        ("USER", "RUN apt-get install -y gcc\nUSER"),
        ('CMD ["python", "-m", ', 'CMD ["sh", "-c", '),
        ("CMD [", "CMD python -m functions_framework #"),
        ("services/loader/main.py", "services/transformer/main.py"),
        ("--without-pip ", ""),
    ],
)
def test_a_promise_not_kept_is_noticed(old: str, new: str) -> None:
    path = "services/loader/Dockerfile"
    text = (REPOSITORY / path).read_text()
    assert old in text
    assert problems(text.replace(old, new), IMAGES[path]) != []


@pytest.mark.parametrize("path", IMAGES)
def test_everything_copied_exists_and_is_sent_to_the_builder(path: str) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    first = [line for line in ignored if not line.startswith("#")]
    assert "*" in first, "everything is left out that is not let in"
    let_in = {line[1:] for line in first if line.startswith("!")}
    for source in {*IMAGES[path].code, f"requirements/{IMAGES[path].lock}.txt"}:
        assert (REPOSITORY / source).exists()
        assert let_in & {source, *map(str, Path(source).parents)}
    assert not let_in & {"tests", ".git", ".venv", ".credix", ".env", "data"}
