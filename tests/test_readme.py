"""What README.md and the other pages show is true: code runs, commands and links are right."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import avalanche_ext
from avalanche_ext.cli import main
from avalanche_ext.config import catalogue, load_experiment

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in sorted(
        [ROOT / "README.md", *ROOT.glob("experiments/**/*.md"), *ROOT.glob(".github/**/*.md")]
    )
}
README = PAGES["README.md"]
FENCED = r"^```(\w*)\n(.*?)^```$"

# An experiment to which the pages' fragments are added; they say where: `# in: methods`.
WHOLE = """
name: whole
benchmark: {name: split_digits}
model: {name: mlp, hidden_sizes: [10]}
optimizer: {name: SGD, lr: 0.1}
training: {batch_size: 10}
seeds: 1
methods: {naive: {}}
"""


@dataclass(frozen=True)
class Block:
    """A block of code, with the page and the line it is on."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    text = PAGES[page]
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[1], found[2])
        for found in re.finditer(FENCED, text, re.DOTALL | re.MULTILINE)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def blocks(language):
    found = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", found, ids=str)


def prose(page):
    return re.sub(FENCED, "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def rows(heading):
    """The rows of the table below a heading of the README, each a list of its cells."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def commands():
    """Every command of ours on the pages that can be checked without running it."""
    for block in BLOCKS:
        if block.language == "bash":
            yield from ((block.page, line) for line in block.text.splitlines())
    for page in PAGES:
        yield from ((page, " ".join(code.split())) for code in re.findall("`([^`]+)`", prose(page)))


def words_after(start):
    """The words that follow a start such as `avalanche-ext run`, by page; no placeholders."""
    for page, command in commands():
        for part in command.split(" && "):
            words = shlex.split(part, comments=True) if part.count("'") % 2 == 0 else []
            if words[:1]:
                words[0] = words[0].removeprefix(".venv/bin/")
            if words[: len(start)] == start and not {"FILE", "DIR"} & set(words):
                yield page, words[len(start) :]


def cases(*start, least=0):
    return [
        pytest.param(words, id=f"{page}: {' '.join(words)}")
        for page, words in words_after([*start])
        if len(words) >= least
    ]


EXPERIMENTS = cases("avalanche-ext", "run", least=1) + cases("avalanche-ext", "check", least=1)


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@blocks("python")
def test_python_runs(block, capsys):
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})
    if block.page == "README.md":
        accuracy = re.search(r"'ACC': ([0-9.]+)", capsys.readouterr().out)
        assert accuracy
        assert float(accuracy[1]) > 0.8


@blocks("yaml")
def test_yaml_is_a_valid_experiment(block, tmp_path):
    document = yaml.safe_load(block.text)
    place = re.match(r"# in: (.+)\n", block.text)
    if place:
        whole = yaml.safe_load(WHOLE)
        (whole if place[1] == "the top level" else whole[place[1]]).update(document)
        document = whole
    for file in (ROOT / block.page).parent.glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    path = tmp_path / "page.yaml"
    path.write_text(block.text if not place else yaml.safe_dump(document), "utf-8")
    assert set(load_experiment(path).methods) >= {
        name for name, method in document["methods"].items() if "sweep" not in method
    }


@pytest.mark.parametrize("words", EXPERIMENTS)
def test_experiments_on_the_pages_are_valid(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [word for word in words if word != "--dry-run"]
    for option in ("--jobs", "--out", "--data-root", "--backend", "--scheduler", "--methods"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    assert main(["check", *words]) == 0


@pytest.mark.parametrize("words", cases("avalanche-ext", "list"))
def test_listed_names_exist(words):
    assert main(["list", *(word for word in words if word != "[NAME]")]) == 0


@pytest.mark.parametrize("words", cases("python", least=1))
def test_scripts_exist_and_take_these_options(words):
    if not words[0].startswith("-"):
        script = ROOT / words[0]
        source = script.read_text("utf-8")
        if "from harness import" in source:  # Which has the options of all benchmarks.
            source += (script.parent / "harness.py").read_text("utf-8")
        assert all(f'"{word}"' in source for word in words[1:] if word.startswith("--"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/**/*.yaml")), ids=lambda p: p.name)
def test_every_experiment_is_valid(path):
    assert main(["check", str(path)]) == 0


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    named = re.findall(r"(?<![\w/.])(?:experiments|avalanche_ext|tests)/[\w./]*\w", PAGES[page])
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_every_plugin_has_a_row_with_its_papers():
    table = {row[0].strip("`"): row for row in rows("Methods")}
    entries = [entry for entry in catalogue.entries("plugin").values() if entry.is_ours]
    assert set(table) == {entry.target.split(":")[1] for entry in entries}
    for entry in entries:
        name = entry.target.split(":")[1]
        papers = set(re.findall(r"\[([\d.]+)\]", table[name][2]))
        assert papers <= set(re.findall(r"arXiv:([\d.]+\d)", entry.paper)), name
        assert papers or table[name][2] == "our own"


def test_reproduced_numbers_are_on_the_page_that_the_row_links():
    page = ""
    for *_, ours, _, link in rows("Reproduction"):
        found = re.search(r"\((.+)\)", link)
        page = PAGES[found[1]] if found else page
        missing = [n for n in re.findall(r"[−+]?\d[\d.]*\d", ours) if n.strip("−+") not in page]
        assert not missing, ours


def test_versions_agree():
    citation = yaml.safe_load((ROOT / ".github" / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == avalanche_ext.__version__
    assert f"version = {{{avalanche_ext.__version__}}}" in README
    assert f"title = {{{citation['title']}}}" in README
    latest = re.search(r"^## ([\d.]+)", PAGES[".github/CHANGELOG.md"], re.MULTILINE)
    assert latest
    assert latest[1] == avalanche_ext.__version__


def test_ci_runs_the_command_the_readme_gives():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    last = [shlex.split(line.split("&&")[-1])[1:] for line in lines]
    (tests,) = [words for words in last if words[:2] == ["-m", "pytest"]]
    steps = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert f'"$environment/bin/python" {shlex.join(tests)}' in steps
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert "- run: .ci/run" in workflow
