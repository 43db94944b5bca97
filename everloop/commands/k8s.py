"""`everloop k8s …`: the loop on Kubernetes. Options are read and results printed here; what is done is in k8s/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everloop.commands.options import Json, print_json, print_table
from everloop.config.load import load
from feedback.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from k8s.api import Kube
    from k8s.objects import Object

Overlay = Annotated[
    str, typer.Option(help="single, gpu or production, or a folder of your own with a kustomization.yaml.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace. Default: the overlay's.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="everloop.toml to run with. Default: the overlay's.")
]
Image = Annotated[str, typer.Option(help="Repository of our image. Default: the overlay's.")]
Tag = Annotated[str, typer.Option(help="Version of our image; -cpu or -gpu is added. Default: the overlay's tags.")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="COMPONENT",
        help="bucket, gpu, kafka-elsewhere, monitoring, newsroom or strimzi, beside the overlay's own.",
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="COMPONENT", help="A component of the overlay that is left out."),
]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig. Default: the current one.")]
Force = Annotated[bool, typer.Option("--force", help="Take fields over that another field manager has set otherwise.")]
Timeout = Annotated[float, typer.Option(min=0, help="How long everything may take to become ready, seconds.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until everything is ready.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The loop on Kubernetes.", no_args_is_help=True)
    commands: list[Callable[..., None]] = [render, diff, apply, status, rollback, logs, delete]
    for each in commands:
        group.command(each.__name__)(each)
    app.add_typer(group, name="k8s")


def render(
    overlay: Overlay = "single",
    namespace: Namespace = "",
    config: Config = None,
    image: Image = "",
    tag: Tag = "",
    with_: With = None,
    without: Without = None,
) -> None:
    """Print the manifests as YAML; no cluster is asked."""
    from k8s.render import text

    print(text(_rendered(overlay, namespace, config, image, tag, with_, without)), end="")


def diff(
    overlay: Overlay = "single",
    namespace: Namespace = "",
    config: Config = None,
    image: Image = "",
    tag: Tag = "",
    with_: With = None,
    without: Without = None,
    context: Context = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say what `apply` would change, as the API server answers a trial run; exit status 1 when it would change something."""
    from k8s.rollout import plan

    items = _rendered(overlay, namespace, config, image, tag, with_, without)
    with _cluster(context) as kube:
        changes = plan(kube, items, force=force)
    if as_json:
        print_json([{"object": str(each.key), "fields": each.fields} for each in changes])
    else:
        print("\n".join(map(str, changes)) if changes else "no difference")
    if changes:
        raise typer.Exit(1)


def apply(
    overlay: Overlay = "single",
    namespace: Namespace = "",
    config: Config = None,
    image: Image = "",
    tag: Tag = "",
    with_: With = None,
    without: Without = None,
    context: Context = "",
    force: Force = False,
    timeout: Timeout = 600.0,
    no_wait: NoWait = False,
) -> None:
    """Bring the cluster to what the manifests say, and wait until everything is ready; changes nothing the second time."""
    from k8s.needs import check_kinds, missing_secrets
    from k8s.render import namespace_of

    items = _rendered(overlay, namespace, config, image, tag, with_, without)
    where = namespace_of(items)
    with _cluster(context) as kube:
        check_kinds(kube, items)
        if missing := missing_secrets(kube, items, where):
            named = ", ".join(missing)
            raise UsageError(f"namespace {where} lacks Secret {named}: docs/kubernetes.md says how to make it")
        _bring(kube, items, force=force, timeout=timeout, no_wait=no_wait)


def status(namespace: Namespace = "everloop", context: Context = "", as_json: Json = False) -> None:
    """Say how each part is, what it serves and how fresh, and why not; exit status 1 when a part is not as it shall be."""
    import msgspec

    from k8s.status import rows
    from k8s.status import status as look

    with _cluster(context) as kube:
        found = look(kube, namespace)
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif not found.parts:
        print(f"nothing of everloop is in namespace {namespace}")
    else:
        print(f"namespace {found.namespace}, release {found.release}, the trainer's lease: {found.trainer or 'nobody'}")
        print_table(["part", "ready", "image", "version/sequence", "freshness p99", "why not"], rows(found))
    if not found.parts or any(part.why for part in found.parts):
        raise typer.Exit(1)


def rollback(
    release: Annotated[int | None, typer.Argument(help="Release to go back to. Default: the one before.")] = None,
    namespace: Namespace = "everloop",
    context: Context = "",
    force: Force = False,
    timeout: Timeout = 600.0,
    no_wait: NoWait = False,
) -> None:
    """Apply an earlier release again: manifests, images and configuration (a model is rolled back by `everloop rollback`)."""
    from k8s.releases import target
    from k8s.rollout import history

    with _cluster(context) as kube:
        chosen = target(history(kube, namespace), release)
        print(f"back to release {chosen.number} of {chosen.applied}")
        _bring(kube, chosen.objects, force=force, timeout=timeout, no_wait=no_wait)


def logs(
    part: Annotated[
        str, typer.Argument(help="gateway, streams, trainer, model-server, steer, newsroom, kafka or redis.")
    ],
    namespace: Namespace = "everloop",
    context: Context = "",
    lines: Annotated[int, typer.Option(min=1, help="Last lines of each container.")] = 100,
) -> None:
    """Print what a part's containers have written last."""
    from k8s.rollout import pods_by_part

    with _cluster(context) as kube:
        pods = pods_by_part(kube, namespace)
        if part not in pods:
            known = ", ".join(sorted(pods)) or "none"
            raise UsageError(f"part = {part!r}: no pod of it in namespace {namespace}; there are pods of: {known}")
        for pod in pods[part]:
            for container in pod["spec"]["containers"]:
                name = pod["metadata"]["name"]
                for line in kube.logs(namespace, name, container["name"], lines=lines).splitlines():
                    print(f"{name}/{container['name']}: {line}")


def delete(
    overlay: Overlay = "single",
    namespace: Namespace = "",
    context: Context = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Annotated[
        bool, typer.Option("--data", help="Delete the volumes and the namespace too: what was learned is gone.")
    ] = False,
) -> None:
    """Delete what was applied; volumes with checkpoints, versions and spools stay unless --data."""
    from k8s.render import namespace_of
    from k8s.rollout import remove

    items = _rendered(overlay, namespace)
    where = namespace_of(items)
    what = "everything, with all volumes" if data else "everything but the volumes"
    with _cluster(context) as kube:
        if not yes:
            typer.confirm(f"Delete {what} of everloop in namespace {where} of {kube.host}?", abort=True)
        remove(kube, items, namespace=where, data=data, say=print)


def _bring(kube: Kube, items: list[Object], *, force: bool, timeout: float, no_wait: bool) -> None:
    from k8s.render import namespace_of
    from k8s.rollout import apply as bring
    from k8s.rollout import tidy, wait

    where = namespace_of(items)
    changed = bring(kube, items, namespace=where, force=force, say=_say)
    if not no_wait:
        wait(kube, items, namespace=where, timeout_s=timeout, say=_say)
    tidy(kube, items, namespace=where)
    print(f"{len(changed)} objects changed" + ("" if no_wait else ", everything is ready"))


def _rendered(
    overlay: str,
    namespace: str,
    config: Path | None = None,
    image: str = "",
    tag: str = "",
    with_: list[str] | None = None,
    without: list[str] | None = None,
) -> list[Object]:
    from k8s.render import Wanted
    from k8s.render import render as build

    text = None if config is None else _checked(config)
    wanted = Wanted(
        overlay=overlay,
        namespace=namespace,
        config=text,
        image=image,
        tag=tag,
        components=tuple(with_ or ()),
        without=tuple(without or ()),
    )
    return build(wanted)


def _checked(file: Path) -> str:
    """Read a configuration that every part will read, and refuse what does not belong into a ConfigMap."""
    loaded = load(file, environ={})
    for key, value in (
        ("kafka.sasl_password", loaded.config.kafka.sasl_password),
        ("gateway.keys", loaded.config.gateway.keys),
    ):
        if value:
            raise ConfigError(file=str(file), key=key, value="***", allowed="from a Secret: see docs/kubernetes.md")
    if "@" in loaded.config.redis.url:
        raise ConfigError(file=str(file), key="redis.url", value="***", allowed="without a password, or from a Secret")
    return file.read_text(encoding="utf-8")


@contextmanager
def _cluster(context: str) -> Iterator[Kube]:
    try:
        from k8s.api import connect
    except ImportError as error:
        raise UsageError(f"everloop k8s needs the package {error.name}: pip install 'everloop[k8s]'") from error
    kube, _ = connect(context=context, say=_say)
    try:
        yield kube
    finally:
        kube.close()


def _say(line: str) -> None:
    typer.echo(line, err=True)
