"""Composes a gateway from its settings: the parts, in the order in which they start and stop."""

from __future__ import annotations

import asyncio
import random
import time

from trenza.audio.v1 import audio_pb2, audio_pb2_grpc
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.images.v1 import images_pb2, images_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza.vision.v1 import vision_pb2, vision_pb2_grpc
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.certificates import CertificateError, CertificateFiles, CertificatePaths
from trenza_runtime.rpc.peers import GATEWAY
from trenza_runtime.rpc.probes import ProbePort
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.rpc.tls import server_credentials, start_transport
from trenza_runtime.telemetry.metrics import MetricsServer, serve_metrics

from trenza_gateway import metrics
from trenza_gateway.app import create_app
from trenza_gateway.auth.access import Access
from trenza_gateway.auth.keys import KeyFile, KeyFileError
from trenza_gateway.connections import ConnectionLimits
from trenza_gateway.dispatch.core.leases import LeaseBook
from trenza_gateway.dispatch.dispatcher import Dispatcher
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.dispatch.intake.audio import AudioIntake
from trenza_gateway.dispatch.intake.chat import ChatIntake
from trenza_gateway.dispatch.intake.images import ImagesIntake
from trenza_gateway.dispatch.intake.intake import Intake, JobLimits
from trenza_gateway.dispatch.intake.vision import VisionIntake
from trenza_gateway.dispatch.link import SchedulerLink
from trenza_gateway.dispatch.placement import Placement
from trenza_gateway.dispatch.replicas import Replicas
from trenza_gateway.front_door.audio import AudioFrontDoor
from trenza_gateway.front_door.callers import Callers
from trenza_gateway.front_door.chat import ChatFrontDoor
from trenza_gateway.front_door.images import ImagesFrontDoor
from trenza_gateway.front_door.models import ModelsFrontDoor
from trenza_gateway.front_door.pictures import Incoming
from trenza_gateway.front_door.vision import VisionFrontDoor
from trenza_gateway.http_server import HttpLimits, HttpServer
from trenza_gateway.limits import AnswerLimits, Answers, Bodies, BodyLimits, RequestCounter
from trenza_gateway.media.links import Links
from trenza_gateway.media.opening import media_store
from trenza_gateway.media.sweeping import sweep_forever
from trenza_gateway.pictures.fetching import Fetcher, FetchRules
from trenza_gateway.pictures.gathering import PictureLimits, Pictures
from trenza_gateway.routes.ops import missing_parts
from trenza_gateway.routes.parts import Parts
from trenza_gateway.settings import Settings
from trenza_gateway.uploads import UploadLimits, Uploads


class Gateway:
    """One gateway. `http_port` and `grpc_port` are known once it has started."""

    def __init__(self, settings: Settings) -> None:
        """Puts the parts together; raises StartError when the settings do not allow that."""
        if complaint := settings.complaint():
            raise StartError(complaint)
        self._settings = settings
        transport = start_transport(GATEWAY, settings.host)
        certificate = _certificate(settings)
        self.http_port = self.grpc_port = 0
        self._more_ports: dict[str, int] = {}
        access = _access(settings)
        leases = LeaseBook()
        metrics.LEASES.set_function(lambda: len(leases))
        self._fleet = Fleet(lambda: leases.slots_by_replica)
        self._replicas = Replicas(transport)
        self._link = SchedulerLink(
            settings.scheduler_address,
            settings.gateway_id,
            leases,
            on_snapshot=self._on_snapshot,
            on_change=self._on_change,
            draw=random.random,
            transport=transport,
        )
        self._placement = Placement(self._link, self._fleet, leases, random.random)
        dispatcher = Dispatcher(self._placement, self._replicas, settings.attempt_limit, random.random)
        intake = Intake(self._fleet, JobLimits(settings.request_s, settings.queue_wait_s))
        self._counter = RequestCounter(settings.request_limit)
        self._answers = Answers(AnswerLimits(settings.answer_limit_bytes, settings.answers_limit_bytes))
        self._media = media_store(settings, time.time)
        bodies = Bodies(_body_limits(settings))
        self._fetcher = _fetcher(settings)
        parts = Parts(
            fleet=self._fleet,
            intake=intake,
            dispatcher=dispatcher,
            bodies=bodies,
            uploads=Uploads(UploadLimits(settings.uploads_limit_bytes, settings.upload_read_s)),
            answers=self._answers,
            counter=self._counter,
            scheduler_up=lambda: self._link.up,
            wall_clock=time.time,
            silence_s=settings.silence_s,
            audio_limit_bytes=settings.audio_limit_bytes,
            image_limit_bytes=settings.image_limit_bytes,
            media=self._media,
            links=Links(settings.media_public_url, settings.media_trust_forwarded),
            pictures=Pictures(_picture_limits(settings), bodies, self._fetcher),
        )
        self._http = HttpServer(
            create_app(parts, access), settings.host, settings.http_port, _http_limits(settings), certificate
        )
        self._rpc = RpcServer(
            settings.host,
            settings.grpc_port,
            _services(Callers(access), parts, _incoming(settings, bodies)),
            credentials=server_credentials(certificate, client_certificates=False) if certificate else None,
        )
        self._probes = ProbePort(settings.host, settings.health_port, lambda: not missing_parts(parts))
        self._metrics: MetricsServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the store and the ports, and connects to the scheduler. Raises StartError, such as for a port that is taken."""
        self._more_ports = await self._probes.start()
        self._metrics = serve_metrics(self._settings.host, self._settings.metrics_port)
        if self._metrics is not None:
            self._more_ports["metrics_port"] = self._metrics.port
        await self._media.start()
        self.http_port = await self._http.start()
        try:
            self.grpc_port = await self._rpc.start()
        except StartError:
            await self._http.drain(0)
            raise
        self._tasks = [
            asyncio.create_task(self._link.run()),
            asyncio.create_task(sweep_forever(self._media, self._settings.media_lifetime_s)),
        ]
        self._probes.started()

    @property
    def ports(self) -> dict[str, int]:
        """Every port that it listens on, by what that is for."""
        return {"http_port": self.http_port, "grpc_port": self.grpc_port, **self._more_ports}

    async def drain(self) -> None:
        """Gives notice while it serves on, then takes nothing new, lets what runs finish within the bound, and stops."""
        self._counter.leaving = True
        await asyncio.sleep(self._settings.notice_s)
        await asyncio.gather(self._http.drain(self._settings.drain_s), self._rpc.drain(self._settings.drain_s))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._fetcher is not None:
            self._fetcher.close()
        await self._media.close()
        await self._replicas.close()
        if self._metrics is not None:
            self._metrics.close()
        await self._probes.close()

    def _on_change(self) -> None:
        self._placement.wake()

    def _on_snapshot(self, snapshot: scheduler_pb2.Snapshot) -> None:
        self._fleet.update(snapshot)
        self._replicas.keep(self._fleet.addresses)


def _access(settings: Settings) -> Access:
    if settings.api_keys_file is None:
        return Access(None)
    try:
        return Access(KeyFile(settings.api_keys_file))
    except KeyFileError as error:
        raise StartError(f"TRENZA_GATEWAY_API_KEYS_FILE cannot be used: {error}") from error


def _certificate(settings: Settings) -> CertificateFiles | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    try:
        return CertificateFiles(CertificatePaths(settings.tls_cert_file, settings.tls_key_file), "front_door")
    except CertificateError as error:
        raise StartError(f"TRENZA_GATEWAY_TLS_CERT_FILE and _KEY_FILE cannot be used: {error}.") from error


def _body_limits(settings: Settings) -> BodyLimits:
    # Base64 takes a third more than what it stands for, and line breaks in it a little.
    pictures_bytes = settings.pictures_limit_bytes * 3 // 2
    return BodyLimits(settings.body_limit_bytes, settings.bodies_limit_bytes, settings.body_read_s, pictures_bytes)


def _picture_limits(settings: Settings) -> PictureLimits:
    return PictureLimits(
        settings.picture_limit, settings.picture_limit_bytes, settings.pictures_limit_bytes, settings.picture_url_s
    )


def _fetcher(settings: Settings) -> Fetcher | None:
    if not settings.picture_urls:
        return None
    return Fetcher(FetchRules(settings.fetch_ports(), settings.fetch_networks()))


def _http_limits(settings: Settings) -> HttpLimits:
    connections = ConnectionLimits(settings.connection_limit, settings.head_read_s, settings.write_stall_s)
    return HttpLimits(settings.keep_alive_s, connections)


def _incoming(settings: Settings, bodies: Bodies) -> Incoming:
    return Incoming(bodies, _picture_limits(settings), settings.upload_read_s)


def _services(callers: Callers, parts: Parts, incoming: Incoming) -> list[RpcService]:
    intake, dispatcher = parts.intake, parts.dispatcher
    chat = ChatFrontDoor(callers, ChatIntake(intake), dispatcher)
    audio = AudioFrontDoor(callers, AudioIntake(intake), dispatcher)
    images = ImagesFrontDoor(callers, ImagesIntake(intake), dispatcher)
    vision = VisionFrontDoor(callers, VisionIntake(intake), dispatcher, incoming)
    models = ModelsFrontDoor(callers, parts.fleet)
    return [
        RpcService(
            chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name,
            lambda server: chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, server),
        ),
        RpcService(
            audio_pb2.DESCRIPTOR.services_by_name["AudioService"].full_name,
            lambda server: audio_pb2_grpc.add_AudioServiceServicer_to_server(audio, server),
        ),
        RpcService(
            images_pb2.DESCRIPTOR.services_by_name["ImagesService"].full_name,
            lambda server: images_pb2_grpc.add_ImagesServiceServicer_to_server(images, server),
        ),
        RpcService(
            vision_pb2.DESCRIPTOR.services_by_name["VisionService"].full_name,
            lambda server: vision_pb2_grpc.add_VisionServiceServicer_to_server(vision, server),
        ),
        RpcService(
            common_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
            lambda server: common_pb2_grpc.add_ModelServiceServicer_to_server(models, server),
        ),
    ]
