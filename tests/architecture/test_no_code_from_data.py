"""Nothing that the package reads can run: no pickle, no eval, no shell, no weights but tensors, no unsafe YAML."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "pty", "code"}
BUILTINS = {"eval", "exec", "compile", "__import__", "input"}
CALLS = {
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "subprocess.getoutput", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "builtins.eval", "builtins.exec"),
    *("pandas.read_pickle", "pd.read_pickle", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
}
LOADERS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def offences(source: str) -> list[str]:
    """What in this source could run something that was read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: word.value for word in node.keywords}
            constant = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
            word, safe = LOADERS.get(name, ("", None))
            unsafe = (constant.get("shell"), constant.get("trust_remote_code"), constant.get(word) is not safe)
            if name in BUILTINS | CALLS or any(unsafe):
                found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_check_sees_what_it_looks_for(line):
    assert offences(line)


@pytest.mark.parametrize("line", ["model.eval()", "re.compile(x)", "torch.load(path, weights_only=True)", "run(words)"])
def test_the_check_leaves_the_rest(line):
    assert offences(line) == []
