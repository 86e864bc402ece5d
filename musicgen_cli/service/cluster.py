"""
The service as a Ray Serve application: the same app, in as many replicas as the load needs.

    serve run musicgen_cli.service.cluster:build model=small replicas=4 allow_host=gpubox

Ray Serve's proxies spread the requests over the replicas, and its controller restarts replicas that died. Each replica
has a model, slots and a queue of its own, and refuses requests that it has no room for, as `musicgen serve` does.
"""
# No `annotations` from __future__: Ray evaluates those of `build` to parse its arguments.

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from musicgen_cli import limits, settings
from musicgen_cli.actions.engines import LogReporter, configure_local, open_engine
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import UsageError
from musicgen_cli.extras import needs
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.log import to_stderr

with needs("cluster"):
    from ray import serve
    from ray.serve import Application
    from ray.serve.config import AutoscalingConfig

NAME = "musicgen"  # of the deployment

_EXTRA_REQUESTS = 32  # to a replica, besides those that run or wait: for /health and the like, or being refused
_STOP_S = 60.0  # for running requests to finish when a replica is stopped


class Arguments(BaseModel):
    """The options of the application: `name=value` for `serve run`, `args` in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    model: str = "auto"
    engine: str | None = None
    device: str | None = None
    precision: str | None = None
    slots: int = Field(8, ge=1)  # clips that each replica generates at the same time
    queue: int = Field(limits.QUEUE, ge=0)  # requests that may wait in each replica
    max_duration: float = Field(limits.CONTEXT_S, ge=limits.DURATION.low, le=limits.DURATION.high)
    log_prompts: bool = False
    allow_host: str = ""  # further names accepted in the Host header, separated by commas
    replicas: int = Field(1, ge=0)  # with autoscaling, the minimum
    max_replicas: int | None = None  # if more than `replicas`, the number follows the load
    cpus: int = Field(2, ge=1)  # of each replica; also the number of threads of its engine
    gpus: float = Field(0, ge=0)


def build(arguments: Arguments) -> Application:
    """
    Build the application, for `serve run`, `serve deploy` or `ray.serve.run`.

    Raises:
        UsageError: MUSICGEN_API_KEY is not set where this runs. A key is always needed, because it is not known here
            whether other machines can reach Serve's proxies.
    """
    config = configure_local(
        arguments.model, engine=arguments.engine, device=arguments.device, precision=arguments.precision
    )

    def make_engine() -> Engine:
        log = logging.getLogger(__name__)
        return open_engine(config, LogReporter(log.info, log.warning), slots=arguments.slots, threads=arguments.cpus)

    return application(make_engine, arguments)


def application(make_engine: Callable[[], Engine], arguments: Arguments) -> Application:
    """
    Build the application over any engine.

    Args:
        make_engine: Called once in each replica.

    Raises:
        UsageError: No API key is set.
    """
    api_key = settings.load({}).api_key
    if not api_key:
        # The message says everything, because Ray shows tracebacks, not hints.
        raise UsageError("a cluster's service needs an API key, because others may reach it: set MUSICGEN_API_KEY")
    options: dict[str, Any] = {"num_replicas": arguments.replicas}
    if arguments.max_replicas is not None and arguments.max_replicas > arguments.replicas:
        # A replica is fully used when its slots are; requests that wait in its queue call for another replica.
        options = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=arguments.replicas,
                max_replicas=arguments.max_replicas,
                target_ongoing_requests=arguments.slots,
            )
        }
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        # More than the app accepts, so that a full queue is answered by the app's 429, not by a wait in the proxy.
        max_ongoing_requests=arguments.slots + arguments.queue + _EXTRA_REQUESTS,
        graceful_shutdown_timeout_s=_STOP_S,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        **options,
    )
    return deployment.bind(make_engine, arguments, api_key)


class Replica:
    """One replica: a model with its slots and its queue, in a process of its own."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, make_engine: Callable[[], Engine], arguments: Arguments, api_key: str
    ) -> None:
        """Load the model; Ray sends requests only afterwards."""
        self._logging = contextlib.ExitStack()
        self._logging.enter_context(to_stderr())
        self._arguments, self._api_key = arguments, api_key
        self._queue = AdmissionQueue(make_engine, limit=arguments.queue)
        await self._queue.load()

    def __serve_build_asgi_app__(self) -> ASGIApp:  # the name that Ray calls it by
        """Return the app; Ray calls this after the model is loaded."""
        return create_app(
            self._queue,
            hosts=[name for name in self._arguments.allow_host.split(",") if name],
            api_keys=[self._api_key],
            max_duration=self._arguments.max_duration,
            log_prompts=self._arguments.log_prompts,
        )
