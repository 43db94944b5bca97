"""What can be set of the follower: `everloop.toml` section [follower]."""

from __future__ import annotations

from dataclasses import dataclass, field

from feedback.errors import ConfigError
from feedback.settings import Count, NonNegative, Positive, Share, Whole


@dataclass(frozen=True, kw_only=True)
class DeadlineSettings:
    """How long a call to the model server may take."""

    sync_s: Positive = 5.0
    """One call of `sync` or `checksum`. Default 5 s."""
    predict_s: Positive = 5.0
    """One probe request. Default 5 s."""
    status_s: Positive = 2.0
    """GetModelStatus. Default 2 s."""
    reload_s: Positive = 120.0
    """HandleReloadConfigRequest; the first one waits for the load (the official server blocks without limit). Default 120 s."""


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """What a version must pass before readers see it."""

    requests: Count = 8
    """Warm-up requests of the version to probe with, at most. Default 8."""
    rows: Count = 16
    """Rows of a probe made from the feature specification, when the version brings no warm-up requests. Default 16."""
    same: NonNegative = 1e-4
    """Greatest median difference of the scores to live's when both stand at one sequence of one line. Default 0.0001."""
    band: Share = 0.5
    """Greatest mean difference of the scores to live's otherwise (another line, or live can't catch up). Default 0.5."""
    attempts: Count = 3
    """Tries before a probe that gets no answer counts as failed. Default 3."""


@dataclass(frozen=True, kw_only=True)
class FollowerSettings:
    """Everything under [follower]."""

    model: str = "news"
    """The model's name, as services ask for it."""
    folder: str = ""
    """Where the model server looks for versions (`<folder>/<model>/<version>`); default: `serving` in the data folder."""
    server_folder: str = ""
    """The same folder as the model server sees it, when it runs in a container of its own. Default: the same path."""
    platform: str = "tensorflow"
    """The model platform named to the server. Default `tensorflow`."""
    storage: dict[str, str] = field(default_factory=dict)
    """Options for the store that versions are downloaded from (fsspec), e.g. endpoint and credentials. Default: none."""
    deltas: bool = True
    """Whether deltas are applied; false: whole versions only, each as it was exported. Default true."""
    poll_s: Positive = 0.25
    """Time between two looks at the model server's status. Default 0.25 s."""
    first_live_s: NonNegative = 5.0
    """While nothing is live, how long a loaded version may catch up before readers get it as it is. Default 5 s."""
    catch_up_s: Positive = 2.0
    """How long live's deltas may wait for a new base to reach the same sequence before the label moves. Default 2 s."""
    drain_s: NonNegative = 2.0
    """How long a version stays loaded after its label has moved. Default 2 s."""
    keep: Count = 2
    """Versions kept on the server's disk beside those loaded. Default 2."""
    batch: Count = 16
    """Deltas in one call of `sync`, at most. Default 16."""
    batch_bytes: Count = 4_194_304
    """Bytes in one call of `sync`, at most (one delta always goes). Default 4 MiB."""
    retry_first_s: Positive = 0.02
    """Pause after the first failed call; doubles. Default 0.02 s."""
    retry_most_s: Positive = 1.0
    """Longest pause between two tries. Default 1 s."""
    fetch_attempts: Count = 5
    """Downloads of a version that turn out half or corrupt before it is refused. Default 5."""
    fetch_retry_s: Positive = 1.0
    """Pause between two downloads of one version. Default 1 s."""
    repairs: Count = 2
    """Reloads of one version whose checksums do not hold; after that it stays as it is, as a problem, until the next base: what is
    in the log is then wrong, not what is in memory. Default 2."""
    report_s: Positive = 0.5
    """Least time between two records on the replicas topic. Default 0.5 s."""
    heartbeat_s: Positive = 10.0
    """Most time between two records on the replicas topic. Default 10 s."""
    lag: Whole = 0
    """Deltas that a caught-up model may lack. Default 0."""
    deadlines: DeadlineSettings = DeadlineSettings()
    """How long calls to the model server may take."""
    verify: VerifySettings = VerifySettings()
    """What a version must pass before readers see it."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if not self.model or "/" in self.model:
            raise ConfigError(key="follower.model", value=self.model, allowed="a name without /")
        if self.retry_first_s > self.retry_most_s:
            raise ConfigError(key="follower.retry_first_s", value=self.retry_first_s, allowed="at most retry_most_s")
        if self.report_s > self.heartbeat_s:
            raise ConfigError(key="follower.report_s", value=self.report_s, allowed="at most heartbeat_s")
