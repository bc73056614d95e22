"""Roles against their own words: specs, defaults, READMEs, names, and the syntax of every playbook."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.core import process

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
COLLECTION = PLAYBOOKS / "collections/ansible_collections/slipway/serving"
ROLES = sorted(path for path in (COLLECTION / "roles").iterdir() if path.is_dir())
NAMES = [role.name for role in ROLES]
# What a task has beside its module
KEYWORDS = [
    "name",
    "block",
    "rescue",
    "always",
    "apply",
    "async",
    "poll",
    "args",
    "become",
    "changed_when",
    "check_mode",
    "delay",
    "delegate_to",
    "environment",
    "failed_when",
    "loop",
    "loop_control",
    "no_log",
    "notify",
    "register",
    "retries",
    "run_once",
    "tags",
    "until",
    "vars",
    "when",
    "any_errors_fatal",
]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def tasks(path: Path) -> list[dict[str, Any]]:
    """Every task of a file, those in blocks included."""
    out = []
    pending = list(read(path) or [])
    while pending:
        task = pending.pop(0)
        out.append(task)
        for part in ("block", "rescue", "always"):
            pending += task.get(part, [])
    return out


def written(called: dict[str, Any]) -> list[dict[str, Any]]:
    """What module files is told of each file, where that stands in the task."""
    files = called.get("files")
    return [entry for entry in files.values() if isinstance(entry, dict)] if isinstance(files, dict) else []


def task_files(role: Path) -> list[Path]:
    return sorted([*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")])


def test_site_imports_every_layer() -> None:
    layers = [play["ansible.builtin.import_playbook"] for play in read(PLAYBOOKS / "site.yml")]
    assert layers == [
        *("lock.yml", "preflight.yml", "lxd.yml", "docker.yml", "upgrade.yml", "nodes.yml"),
        *("registry.yml", "cluster.yml", "model_server.yml"),
    ]
    both = [play["ansible.builtin.import_playbook"] for play in read(PLAYBOOKS / "kubernetes.yml")]
    assert both == ["upgrade.yml", "nodes.yml", "cluster.yml"]


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_spec_and_defaults_name_the_same_variables(role: Path) -> None:
    spec = read(role / "meta/argument_specs.yml")["argument_specs"]
    described = {name for entry in spec.values() for name in entry.get("options", {})}
    assert described == set(read(role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_a_literal_default_is_the_same_in_spec_and_defaults(role: Path) -> None:
    defaults = read(role / "defaults/main.yml")
    for entry in read(role / "meta/argument_specs.yml")["argument_specs"].values():
        for name, option in entry.get("options", {}).items():
            default = defaults[name]
            if option.get("required") or (isinstance(default, str) and "{{" in default):
                continue
            assert option["default"] == default, name


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_variables_say_by_their_spelling_who_sets_them(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in read(role / "defaults/main.yml"))
    vars_file = role / "vars/main.yml"
    if vars_file.is_file():
        assert all(name.startswith(f"_{role.name}_") for name in read(vars_file))
    for file in task_files(role):
        for task in tasks(file):
            assert task.get("register", f"__{role.name}_").startswith(f"__{role.name}_"), task["name"]


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_task_is_named_and_no_error_is_ignored(role: Path) -> None:
    for file in task_files(role):
        text = file.read_text()
        for task in tasks(file):
            assert task.get("name", "")[:1].isupper(), f"{file}: {task}"
            assert "ignore_errors" not in task, f"{file}: {task['name']}"
        hidden = re.findall(r"no_log: true(.*)", text)
        assert all(reason.strip().startswith("#") for reason in hidden), f"{file}: no_log without its reason"


def test_variables_used_in_tasks_exist() -> None:
    """A misspelt variable would only show on a real host."""
    known = set()
    for role in ROLES:
        for file in [role / "defaults/main.yml", role / "vars/main.yml"]:
            known |= set(read(file)) if file.is_file() else set()
    used: dict[str, Path] = {}
    for role in ROLES:
        for file in [*role.rglob("*.yml"), *role.rglob("*.j2")]:
            for name in re.findall(rf"(?<![\w.'/])_?(?:{'|'.join(NAMES)})_[a-z0-9_]+", file.read_text()):
                used[name] = file
    registered = {
        task["register"]
        for role in ROLES
        for file in task_files(role)
        for task in tasks(file)
        if "register" in task
    }
    local = {
        name
        for role in ROLES
        for file in task_files(role)
        for task in tasks(file)
        for name in [*task.get("vars", {}), task.get("loop_control", {}).get("loop_var", "")]
    }
    tags = {f"{role}_{part}" for role in NAMES for part in ("install", "configure", "run")}
    groups_and_facts = {"control_plane", "kubernetes_node", "host_facts"}
    unknown = {
        name: str(file)
        for name, file in used.items()
        if name not in known | registered | local | tags | groups_and_facts and not name.startswith("__")
    }
    assert not unknown


def test_kubeadm_is_run_in_one_way() -> None:
    """The way that hands it no proxy: it would copy the proxy's login into pods that others may read."""
    run = 0
    for file in [file for role in ROLES for file in task_files(role)]:
        for task in tasks(file):
            words = [
                str(value)
                for module, called in task.items()
                if isinstance(called, dict) and "." in module
                for given in (called, *written(called))
                for key, value in given.items()
                if key in ("argv", "cmd", "validate")
            ]
            text = "\n".join(words).replace("'upload-config', 'kubeadm'", "'upload-config'")
            assert not re.search(r"(?<![\w./-])kubeadm(?![\w./-])", text), f"{file}: {task['name']}"
            run += text.count("_host_kubeadm")
    assert run >= 10, "or nothing was looked at"


def test_packages_come_and_go_in_one_role() -> None:
    """The one that waits for whoever uses apt, and names them."""
    for file in [file for role in ROLES if role.name != "apt_source" for file in task_files(role)]:
        for task in tasks(file):
            asks = task.get("check_mode") is True  # what apt would do changes nothing
            assert asks or "ansible.builtin.apt" not in task, f"{file}: {task['name']}"


def test_kubeadm_sees_no_proxy_of_any_name() -> None:
    *before, program = read(COLLECTION / "roles/host/vars/main.yml")["_host_kubeadm"]
    assert program == "kubeadm"
    names = ("http_proxy", "HTTPS_PROXY", "No_Proxy", "all_proxy", "FTP_PROXY", "x_proxy")
    environ = {"PATH": "/usr/bin:/bin"} | dict.fromkeys(names, "http://bob:canary@proxy.invalid:3128")
    assert "canary" in process.run(["env"], env=environ, timeout=10).stdout
    assert process.run([*before, "env"], env=environ, timeout=10).stdout.startswith("PATH=")
    assert "canary" not in process.run([*before, "env"], env=environ, timeout=10).stdout


@pytest.mark.parametrize("way", ["control_plane/templates/kubeadm-init", "worker/templates/kubeadm-join"])
def test_kubeadm_waits_for_an_answer_as_long_as_its_role_says(way: str) -> None:
    """Its own minute is over before a busy machine answers the first calls."""
    role = way.partition("/")[0]
    text = (COLLECTION / "roles" / f"{way}.yml.j2").read_text()
    _, _, timeouts = text.partition("\ntimeouts:\n")
    assert f"  kubernetesAPICall: {{{{ {role}_timeout }}}}s" in timeouts.partition("---")[0]
    assert read(COLLECTION / f"roles/{role}/defaults/main.yml")[f"{role}_timeout"] > 60


def test_fixed_variables_take_nothing_from_registered_results() -> None:
    """What a task registers is handed on where it is used, in that task's or block's own vars."""
    files = [file for role in ROLES for file in (role / "vars").glob("*.yml")]
    assert files
    hidden = [str(file) for file in files if "__" in file.read_text()]
    assert not hidden


def test_modules_filters_and_roles_are_named_in_full() -> None:
    """A short name would be looked up in whatever folders the user's own project has."""
    plugins = {path.stem for path in COLLECTION.glob("plugins/*/*.py")}
    filters = "|".join(path.stem for path in COLLECTION.glob("plugins/filter/*.py"))
    for file in [*(file for role in ROLES for file in task_files(role)), *PLAYBOOKS.glob("tasks/*.yml")]:
        for task in tasks(file):
            for module in set(task) - set(KEYWORDS):
                namespace, _, name = module.rpartition(".")
                assert namespace.count(".") == 1, f"{file}: {module}"
                assert namespace != "slipway.serving" or name in plugins, f"{file}: {module}"
            for words in (task.get(f"ansible.builtin.{how}_role") for how in ("include", "import")):
                assert words is None or words["name"].startswith("slipway.serving."), f"{file}: {words}"
    for file in [file for role in ROLES for ending in ("yml", "j2") for file in role.rglob(f"*.{ending}")]:
        assert not re.search(rf"\|\s*(?:{filters})\b", file.read_text()), file
    for file in PLAYBOOKS.glob("*.yml"):
        for play in read(file):
            assert all(role["role"].startswith("slipway.serving.") for role in play.get("roles", [])), file


def test_facts_tell_of_no_file_that_no_role_knows() -> None:
    """One that is renamed in a role alone would count as absent, and its task run in every run."""
    facts = runpy.run_path(str(COLLECTION / "plugins/modules/host_facts.py"))
    known = "\n".join(file.read_text() for role in ROLES for file in role.rglob("*.yml"))
    programs = ("kubeadm", "kubectl", "kubelet")  # their paths are made of their names
    for path in (*facts["FILES"], *facts["PUBLIC_FILES"]):
        name = Path(path).name
        assert path in known or f"/{name}'" in known or name in programs, path


def test_readmes_are_what_the_specs_say() -> None:
    pages = runpy.run_path(str(PLAYBOOKS / "readmes.py"))["pages"]()
    assert sorted(path.parent.name for path in pages) == NAMES
    stale = [str(path) for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    assert not stale, "run `python playbooks/readmes.py`"


@pytest.mark.parametrize("folder", [PLAYBOOKS.parent, PLAYBOOKS], ids=["root", "playbooks"])
def test_playbooks_parse_from_both_folders(folder: Path, ansible: str) -> None:
    books = sorted(path for path in PLAYBOOKS.glob("*.yml"))
    assert len(books) >= 7
    words = [str(book.relative_to(folder)) for book in books]
    example = PLAYBOOKS / "inventory" / "example.yml"
    process.run([ansible, "-i", example, "--syntax-check", *words], cwd=folder, timeout=120)


CHECKED = [role for role in ROLES if (role / "tasks/preflight.yml").is_file() and role.name != "apt_source"]


def test_preflight_asks_every_role_that_has_something_to_say() -> None:
    (play,) = read(PLAYBOOKS / "preflight.yml")
    asked = [role["name"] for role in play["vars"]["preflight_roles"] if "tasks" not in role]
    assert sorted(asked) == [role.name for role in CHECKED]
    # role host is imported as what gathers, the others for their variables alone
    known = {task["ansible.builtin.import_role"]["name"] for task in play["tasks"][-1]["block"]}
    assert known == {f"slipway.serving.{name}" for name in asked if name != "host"}
    for role in CHECKED:
        first, *_rest = told(role / "tasks/main.yml")
        # by facts, which role host gathers first, and by nothing else before it
        at = 2 if role.name == "host" else 0
        if "begin.yml" in {first.get(f"ansible.builtin.{how}_tasks") for how in ("include", "import")}:
            first, *_rest = told(role / "tasks/begin.yml")[at:]
        assert first["ansible.builtin.import_tasks"] == "preflight.yml", "a role used alone asks by itself"


def told(tasks: Path) -> list[dict[str, Any]]:
    """The tasks that are run where something is to do."""
    return [task for task in read(tasks) if task.get("ansible.builtin.meta") != "end_role"]


def test_who_may_be_left_as_it_is_was_asked_before() -> None:
    """Ansible asks it outside of every task, where what cannot be asked ends the run in words for nobody."""
    for tasks in COLLECTION.glob("roles/*/tasks/*.yml"):
        for task in read(tasks):
            if task.get("ansible.builtin.meta") == "end_role" and tasks.name in {"main.yml", "begin.yml"}:
                assert "preflight_passed is defined" in task["when"] or tasks.parts[-3] == "host", tasks


@pytest.mark.parametrize("role", CHECKED, ids=[role.name for role in CHECKED])
def test_a_check_is_a_name_a_condition_and_a_sentence(role: Path) -> None:
    (task,) = read(role / "tasks/preflight.yml")
    assert set(task) == {"name", "ansible.builtin.assert", "loop", "loop_control"}
    assert task["loop"] == f"{{{{ _{role.name}_checks }}}}"
    checks = yaml.safe_load((role / "vars/main.yml").read_text())[f"_{role.name}_checks"]
    assert all(set(check) == {"check", "that", "otherwise"} for check in checks)
    assert not any("{{" in check["that"] for check in checks), "a condition is written as in `when`"


@pytest.mark.parametrize(("needs", "products"), [("client", ["client"]), ("server", ["client", "server"])])
def test_a_venv_on_a_host_has_what_its_products_ask_for(needs: str, products: list[str]) -> None:
    fixed = yaml.safe_load((COLLECTION / "roles/model_server/vars/main.yml").read_text())
    for product in products:
        declared = tomllib.loads((PLAYBOOKS.parent / f"infra/slipway_{product}/pyproject.toml").read_text())
        asked = {
            re.split(r"[^A-Za-z0-9-]", word, maxsplit=1)[0] for word in declared["project"]["dependencies"]
        }
        assert asked - {"slipway-client"} <= set(fixed[f"_model_server_{needs}_needs"])
