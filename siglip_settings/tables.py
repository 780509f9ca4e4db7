"""Every setting of the project, each defined once; a process's settings are put together by inheritance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from siglip_settings.errors import SettingsError
from siglip_settings.fields import setting

Tower = Literal["text", "vision"]

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class DownloadSettings:
    """How checkpoints are fetched from the hub (HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured)."""

    revision: str | None = setting(None, help="Branch, tag or commit of a hub checkpoint.")
    cache_dir: str | None = setting(
        None, help="Folder for downloaded checkpoints. Default: the cache of huggingface_hub."
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings(DownloadSettings):
    """Which checkpoint is served."""

    model: str = setting(help="Checkpoint: a folder in the Hugging Face layout, or a hub id.")
    model_name: str | None = setting(
        None, help="Name that clients ask for. Default: the folder's base name, or the hub id."
    )

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        if not self.served_name.isprintable():  # it goes into replies, keys, logs and metrics
            raise SettingsError(
                f"a model is named {self.served_name!r}, which cannot be printed; give another --model-name"
            )

    @property
    def served_name(self) -> str:
        """The name in requests, replies and queue keys: gateway and workers must agree on it."""
        folder = Path(self.model).expanduser()
        return self.model_name or (folder.resolve().name if folder.is_dir() else self.model)


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(ModelSettings):
    """Which further checkpoints are served beside it."""

    more_models: str | None = setting(
        None,
        help="Further models of this gateway: NAME=CHECKPOINT, several with commas. CHECKPOINT is a folder, "
        "or a hub id with or without @REVISION.",
    )

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        names = [each.served_name for each in self.each_model]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError(f"two models are named {twice!r}; correct --more-models or --model-name")

    @property
    def each_model(self) -> tuple[ModelSettings, ...]:
        """All models, each by itself; the first is what calls without a name mean."""
        first = ModelSettings(
            model=self.model, model_name=self.model_name, revision=self.revision, cache_dir=self.cache_dir
        )
        further = self.more_models.split(",") if self.more_models else ()
        return (first, *(self._further(entry) for entry in further))

    def _further(self, entry: str) -> ModelSettings:
        name, _, checkpoint = map(str.strip, entry.partition("="))
        if not name or not checkpoint:
            raise SettingsError(
                f"--more-models has {entry.strip()!r}; it must be NAME=CHECKPOINT, several with commas"
            )
        is_folder = Path(checkpoint).expanduser().is_dir()
        hub_id, _, revision = (checkpoint, "", "") if is_folder else checkpoint.partition("@")
        return ModelSettings(
            model=hub_id, model_name=name, revision=revision or None, cache_dir=self.cache_dir
        )


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """Where the queue is."""

    redis_url: str | None = setting(
        None,
        secret=True,
        help="Redis >= 7.0 or Valkey >= 7.2: redis://, rediss:// (TLS) or unix://, with user and password. "
        "Several hosts, with commas: Sentinels, or nodes of a cluster.",
    )
    redis_password: str | None = setting(
        None,
        secret=True,
        help="The password as it is, for a URL without one; in a URL / ? # @ : % are %2F and so on.",
    )
    redis_sentinel_name: str | None = setting(
        None, help="Name under which Sentinels know the primary: the URL's hosts are then these Sentinels."
    )
    redis_cluster: Literal["off", "on"] = setting(
        "off", help="on: the URL's hosts are nodes of a cluster; the others are found through them."
    )
    redis_shards: int = setting(
        1,
        minimum=1,
        maximum=8,
        unit="shards",
        help="Queues that share the work, spread over a cluster's nodes; the same for gateways and workers.",
    )
    redis_ca_file: str | None = setting(None, help="PEM file of the authority that signed the server.")
    redis_cert_file: str | None = setting(None, help="PEM file of this side's certificate (mutual TLS).")
    redis_key_file: str | None = setting(None, help="PEM file of that certificate's key.")


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """What every process of the service has."""

    log_format: Literal["auto", "text", "json"] = setting(
        "auto", help="How log lines are written to stderr. auto: text on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", help="The least important lines to log."
    )
    metrics_listen: str | None = setting(
        None,
        help="host:port of the page with /metrics, /healthz and /readyz; port 0: any. 'siglip serve' "
        "gives the port to the gateway and the ones after it to the workers. Default: no page.",
    )
    traces_endpoint: str | None = setting(
        None,
        secret=True,
        help="Where spans are sent (OpenTelemetry, OTLP over HTTP): http://host:4318. Default: nowhere.",
    )
    traces_sample_ratio: float = setting(
        1.0,
        minimum=0,
        maximum=1,
        help="Share of calls that are traced; a call that comes with a trace follows its caller's choice.",
    )
    drain_timeout_s: float = setting(
        30.0, unit="s", minimum=0, help="Time to finish accepted work when told to stop."
    )


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(ModelsSettings, RedisSettings, ProcessSettings):
    """The gRPC front: decodes, tokenizes, queues, scores."""

    listen: str = setting(
        "127.0.0.1:50051", help="Address to serve on: host:port (port 0: any), or unix:path."
    )
    tls_cert_file: str | None = setting(
        None, help="PEM file of the server's certificate chain: serves TLS. Read again when it changes."
    )
    tls_key_file: str | None = setting(None, help="PEM file of that certificate's key, not encrypted.")
    tls_client_ca_file: str | None = setting(
        None, help="PEM file of the authority whose certificates clients must show (mutual TLS)."
    )
    token_file: str | None = setting(
        None, help="TOML file of the tokens that callers must show; 'siglip token new' makes entries."
    )
    plaintext_tokens: Literal["refuse", "allow"] = setting(
        "refuse", help="Tokens without TLS beyond loopback; allow: a proxy in front speaks TLS."
    )
    reflection: Literal["auto", "on", "off"] = setting(
        "auto", help="gRPC reflection, which lists the services. auto: only on loopback."
    )
    towers: Literal["text,vision", "text", "vision"] = setting(
        "text,vision", help="Towers that this deployment serves."
    )
    decode_processes: int = setting(
        0, minimum=0, maximum=1024, unit="processes", help="Processes that decode images; 0: one per core."
    )
    max_decode_s: float = setting(
        10.0, unit="s", minimum=0.001, help="One image; a decoding process that takes longer is replaced."
    )
    max_texts: int = setting(512, unit="texts", minimum=1, help="Texts in one call.")
    max_images: int = setting(64, unit="images", minimum=1, help="Images in one call.")
    max_labels: int = setting(1024, unit="labels", minimum=1, help="Labels in one Classify call or set.")
    max_templates: int = setting(128, unit="templates", minimum=1, help="Templates in one Classify call.")
    max_prompts: int = setting(
        4096, unit="prompts", minimum=1, help="Labels times templates in one Classify call."
    )
    max_scores: int = setting(
        16384, unit="scores", minimum=1, help="Images times labels, or images times texts, in one call."
    )
    max_text_bytes: int = setting(65536, unit="bytes", minimum=1, help="One text, in UTF-8.")
    max_image_bytes: int = setting(16 * MIB, unit="bytes", minimum=1, help="One encoded image.")
    max_image_pixels: int = setting(
        50_000_000,
        unit="pixels",
        minimum=1,
        help="Width times height of one image, checked before decoding. Each takes 5 to 8 bytes of memory "
        "(WebP: 16) in each decoding process.",
    )
    max_message_bytes: int = setting(32 * MIB, unit="bytes", minimum=1024, help="One request message.")
    max_slow_messages: int = setting(
        32, unit="messages", minimum=1, help="Request messages that take longer than 0.25 s to arrive."
    )
    max_streams: int = setting(
        16, unit="streams", minimum=1, help="EmbedStream calls at a time; clients may open one a connection."
    )
    stream_max_items: int = setting(
        512, unit="items", minimum=1, help="Texts and images of one stream that are read and not answered."
    )
    stream_max_bytes: int = setting(
        32 * MIB, unit="bytes", minimum=1, help="Bytes of one stream that are read and not answered."
    )
    max_reply_bytes: int = setting(
        4 * MIB, unit="bytes", minimum=1024, help="One Classify reply; stock clients accept 4 MiB."
    )
    default_deadline_s: float | None = setting(
        None, unit="s", minimum=0.001, help="Time of a call without a deadline. Default: max_deadline_s."
    )
    max_deadline_s: float = setting(
        60.0, unit="s", minimum=0.001, help="Longest time of a call; longer deadlines become this."
    )
    max_connection_age_s: float = setting(
        600.0,
        unit="s",
        minimum=0.001,
        help="Connections are renewed after this time, without failing calls: balancers spread them anew.",
    )
    max_in_flight_rows: int = setting(
        8192, unit="rows", minimum=1, help="Texts and images accepted and not yet answered, per gateway."
    )
    max_in_flight_bytes: int = setting(
        256 * MIB, unit="bytes", minimum=1, help="Request bytes accepted and not yet answered, per gateway."
    )
    cache_bytes: int = setting(
        64 * MIB,
        unit="bytes",
        minimum=0,
        help="Vectors, and refusals of bad images, that are remembered; equal work at the same time is done "
        "once. 0: every item is computed.",
    )
    shared_cache_bytes: int = setting(
        0,
        unit="bytes",
        minimum=0,
        help="Gateways share vectors through Redis, and write while it uses less memory than this, and less "
        "than a quarter of its maxmemory. 0: they do not.",
    )
    shared_cache_ttl_s: float = setting(
        3600.0, unit="s", minimum=1, maximum=31_536_000, help="How long a shared vector is kept."
    )
    label_set_ttl_s: float = setting(
        3600.0,
        unit="s",
        minimum=1,
        maximum=31_536_000,
        help="Time of a label set after its last use.",
    )
    label_sets_bytes: int = setting(
        64 * MIB,
        unit="bytes",
        minimum=1,
        help="Label sets of a model kept in Redis, and in each gateway; the ones longest unused make room.",
    )
    queue_max_entries: int = setting(
        512,
        unit="entries",
        minimum=1,
        help="Entries waiting for one tower, in Redis and in this gateway; above it calls are refused. "
        "An entry has 64 texts or 8 images at most; where a worker's batch is smaller, entries are so too "
        "and as many more may wait.",
    )
    canary_interval_s: float = setting(
        10.0,
        unit="s",
        minimum=0,
        help="How often a known row goes through each tower, or less often where it takes long; without its "
        "right vector the gateway is not ready. 0: never.",
    )
    no_worker_timeout_s: float = setting(
        10.0, unit="s", minimum=0, help="After this long without a live worker, calls fail at once."
    )

    @property
    def served_towers(self) -> tuple[Tower, ...]:
        """`towers` as a tuple."""
        return cast("tuple[Tower, ...]", tuple(self.towers.split(",")))


@dataclass(frozen=True, kw_only=True)
class PlaceSettings:
    """Where and with which attention a model runs."""

    device: str = setting("auto", help="auto, cpu, cuda, cuda:N or mps. auto: a GPU where there is one.")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = setting(
        "auto", help="Attention implementation; flash_attention_2 needs the flash-attn package."
    )


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(PlaceSettings):
    """How a tower is computed."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto", help="Compute dtype. auto: float32 on CPU, bfloat16 on a GPU."
    )
    threads: int = setting(
        0, unit="threads", minimum=0, maximum=4096, help="CPU threads of a worker; 0: its share of the cores."
    )
    max_batch_rows: int = setting(
        0, unit="rows", minimum=0, help="Most texts or images in one run of the model; 0: measured at start."
    )


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(ModelSettings, RedisSettings, ProcessSettings, DeviceSettings):
    """One process that runs one tower."""

    tower: Literal["text", "vision"] = setting(help="The tower to run.")


@dataclass(frozen=True, kw_only=True)
class ServeSettings(GatewaySettings, DeviceSettings):
    """Everything on one machine: queue, gateway and workers."""

    text_workers: int = setting(
        1, unit="processes", minimum=0, maximum=256, help="Workers of the text tower."
    )
    vision_workers: int = setting(
        1, unit="processes", minimum=0, maximum=256, help="Workers of the vision tower."
    )
    run_dir: str | None = setting(
        None, help="Where the private runtime folder is made. Default: the system's temporary folder."
    )
    start_timeout_s: float = setting(
        300.0, unit="s", minimum=1, help="Time until everything must be ready (downloads not counted)."
    )


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """The commands that call a gateway."""

    address: str = setting("127.0.0.1:50051", help="Address of the gateway: host:port, or unix:path.")
    served_model: str | None = setting(
        None, help="Name of the model to ask for, where a gateway serves several. Default: its first."
    )
    timeout_s: float = setting(30.0, unit="s", minimum=0.001, help="Deadline of each call.")
    priority: Literal["interactive", "batch"] = setting(
        "interactive", help="batch: may wait while interactive calls are answered."
    )
    tls: Literal["off", "on"] = setting("off", help="Call with TLS; a --ca-file or --cert-file implies it.")
    ca_file: str | None = setting(
        None, help="PEM file of the authority that signed the server. Default: those of the system."
    )
    cert_file: str | None = setting(None, help="PEM file of this side's certificate (mutual TLS).")
    key_file: str | None = setting(None, help="PEM file of that certificate's key.")
    token: str | None = setting(
        None, secret=True, help="Token to show to the gateway; the variable keeps it out of process lists."
    )


@dataclass(frozen=True, kw_only=True)
class JobSettings(ClientSettings):
    """How a job over many items runs."""

    decode: Literal["gateway", "client"] = setting(
        "gateway", help="Where images are decoded. client: here, which takes that load off the gateway."
    )
    decoders: int = setting(
        0, minimum=0, maximum=1024, unit="processes", help="For --decode client; 0: one per core."
    )
    rows_per_part: int = setting(20_000, minimum=1, maximum=1_000_000, unit="rows", help="Of one part.")
    part_every_s: float = setting(
        60.0, unit="s", minimum=0.1, help="A part is written after this time, full or not."
    )
    patience_s: float = setting(
        600.0, unit="s", minimum=0.1, help="How long to wait for the service without any progress."
    )


@dataclass(frozen=True, kw_only=True)
class TrainSettings(PlaceSettings):
    """How a checkpoint is fine-tuned."""

    epochs: int | None = setting(
        None, minimum=1, unit="epochs", help="Times through the data. Default: 1, unless --steps is given."
    )
    steps: int | None = setting(None, minimum=1, unit="steps", help="Steps, instead of --epochs.")
    batch_size: int = setting(
        64, minimum=2, unit="pairs", help="Pairs of one step, over all processes together."
    )
    learning_rate: float = setting(1e-5, minimum=0, help="Highest learning rate of the schedule.")
    weight_decay: float = setting(
        0.01, minimum=0, help="Of matrices; biases, norms and the two scalars never decay."
    )
    warm_up_steps: int | None = setting(
        None, minimum=0, unit="steps", help="Default: a tenth of all steps, at most 1000."
    )
    max_grad_norm: float = setting(1.0, minimum=1e-9, help="Longer gradients are scaled to this length.")
    frozen: Literal["none", "vision", "text", "vision,text"] = setting(
        "none", help="Towers that are not trained."
    )
    precision: Literal["float32", "bf16"] = setting(
        "float32", help="bf16: the towers compute in bfloat16, weights and loss stay float32."
    )
    seed: int = setting(0, minimum=0, maximum=1_000_000, help="Decides the order of pairs and all chance.")
    template: str = setting(
        "This is a photo of {}.", help="Caption of a folder's name, where folders are class labels."
    )
    image_column: str = setting("image", help="Column of pictures in Parquet files.")
    text_column: str = setting("text", help="Column of captions in Parquet files.")
    max_bad_pairs: int = setting(
        100, minimum=0, unit="pairs", help="Pairs that may be unusable; above it training stops."
    )
    eval_every_steps: int = setting(
        0, minimum=0, unit="steps", help="Evaluate this often; 0: before the first and after the last step."
    )
    save_every_steps: int = setting(500, minimum=0, unit="steps", help="Save this often; 0: at the end.")
    workers: int = setting(
        2, minimum=0, maximum=256, unit="processes", help="That decode pictures for each training process."
    )
