"""Every command by name, and the module that has it; modules are imported on use.

An entry is (module in ``cli/commands``, name of its ``Command`` there, summary).
"""

from __future__ import annotations

Entry = tuple[str, str, str]


class Group:
    """A word that commands stand behind (``rootless volume ls``)."""

    __slots__ = ("commands", "summary")

    def __init__(self, summary: str, commands: dict[str, Entry]) -> None:
        self.summary = summary
        self.commands = commands


TOP: dict[str, Entry] = {
    "attach": ("attach", "COMMAND", "Attach local streams to a running container"),
    "audit": ("host", "AUDIT", "Read and verify the log of the policy's decisions"),
    "check-policy": ("host", "CHECK_POLICY", "Check policies, and inputs against them"),
    "commit": ("commit", "COMMAND", "Create a new image from a container's changes"),
    "cp": ("cp", "COMMAND", "Copy files between a container and the local filesystem"),
    "create": ("create", "COMMAND", "Create a new container"),
    "diff": ("diff", "COMMAND", "Inspect changes to a container's filesystem"),
    "doctor": ("host", "DOCTOR", "Check what this host can do and how to mend it"),
    "events": ("events", "COMMAND", "Get real time events from the daemon"),
    "exec": ("exec", "COMMAND", "Execute a command in a running container"),
    "export": ("archive", "EXPORT", "Export a container's filesystem as a tar archive"),
    "history": ("history", "COMMAND", "Show the history of an image"),
    "images": ("images", "COMMAND", "List images"),
    "import": ("archive", "IMPORT", "Import a tarball to create a filesystem image"),
    "info": ("info", "COMMAND", "Display system-wide information"),
    "inspect": ("inspect", "COMMAND", "Return low-level information on objects"),
    "kill": ("lifecycle", "KILL", "Kill one or more running containers"),
    "load": ("archive", "LOAD", "Load an image from a tar archive or STDIN"),
    "login": ("login", "LOGIN", "Authenticate to a registry"),
    "logout": ("login", "LOGOUT", "Log out from a registry"),
    "logs": ("logs", "COMMAND", "Fetch the logs of a container"),
    "pause": ("lifecycle", "PAUSE", "Pause all processes within one or more containers"),
    "port": ("port", "COMMAND", "List port mappings or a specific mapping"),
    "ps": ("ps", "COMMAND", "List containers"),
    "pull": ("pull", "COMMAND", "Download an image from a registry"),
    "push": ("push", "COMMAND", "Upload an image to a registry"),
    "rename": ("lifecycle", "RENAME", "Rename a container"),
    "restart": ("lifecycle", "RESTART", "Restart one or more containers"),
    "rm": ("lifecycle", "RM", "Remove one or more containers"),
    "rmi": ("rmi", "COMMAND", "Remove one or more images"),
    "run": ("run", "COMMAND", "Create and run a new container from an image"),
    "save": ("archive", "SAVE", "Save one or more images to a tar archive"),
    "search": ("search", "COMMAND", "Search Docker Hub for images"),
    "setup": ("host", "SETUP", "Prepare this host (as root)"),
    "start": ("start", "COMMAND", "Start one or more stopped containers"),
    "stats": ("stats", "COMMAND", "Display resource usage statistics"),
    "stop": ("lifecycle", "STOP", "Stop one or more running containers"),
    "tag": ("tag", "COMMAND", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("top", "COMMAND", "Display the running processes of a container"),
    "unpause": ("lifecycle", "UNPAUSE", "Unpause all processes within one or more containers"),
    "update": ("update", "COMMAND", "Update configuration of one or more containers"),
    "version": ("version", "COMMAND", "Show the version information"),
    "wait": ("lifecycle", "WAIT", "Block until containers stop, then print their exit codes"),
}

_CONTAINER = (
    "attach commit cp create diff exec export kill logs pause port rename restart rm run start "
    "stats stop top unpause update wait"
).split()

GROUPS: dict[str, Group] = {
    "container": Group(
        "Manage containers",
        {
            **{name: TOP[name] for name in _CONTAINER},
            "ls": TOP["ps"],
            "inspect": ("inspect", "CONTAINER", "Display detailed information on containers"),
            "prune": ("prune", "CONTAINER", "Remove all stopped containers"),
        },
    ),
    "auth": Group(
        "Ask who you are to the engine and what you may do",
        {
            "can-i": ("auth", "CAN_I", "Ask whether the policy lets you do something"),
            "whoami": ("auth", "WHOAMI", "Print who the daemon takes you for"),
        },
    ),
    "context": Group(
        "Manage contexts",
        {
            "create": ("context", "CREATE", "Create a context"),
            "export": ("context", "EXPORT", "Export a context to a tar archive"),
            "import": ("context", "IMPORT", "Import a context from a tar archive"),
            "inspect": ("context", "INSPECT", "Display detailed information on contexts"),
            "ls": ("context", "LS", "List contexts"),
            "rm": ("context", "RM", "Remove one or more contexts"),
            "show": ("context", "SHOW", "Print the name of the current context"),
            "update": ("context", "UPDATE", "Update a context"),
            "use": ("context", "USE", "Set the context that commands use by default"),
        },
    ),
    "image": Group(
        "Manage images",
        {
            **{name: TOP[name] for name in "history import load pull push save tag".split()},
            "generate-key-pair": ("host", "IMAGE_KEYS", "Make a key pair to sign images with"),
            "ls": TOP["images"],
            "rm": TOP["rmi"],
            "inspect": ("inspect", "IMAGE", "Display detailed information on images"),
            "prune": ("prune", "IMAGE", "Remove unused images"),
            "sign": ("host", "IMAGE_SIGN", "Sign images in a registry with a key"),
            "verify": ("host", "IMAGE_VERIFY", "Verify the signatures of images in a registry"),
        },
    ),
    "network": Group(
        "Manage networks",
        {
            "connect": ("networks", "CONNECT", "Connect a container to a network"),
            "create": ("networks", "CREATE", "Create a network"),
            "denied": ("network_denied", "DENIED", "Show what egress lists denied"),
            "disconnect": ("networks", "DISCONNECT", "Disconnect a container from a network"),
            "inspect": ("inspect", "NETWORK", "Display detailed information on networks"),
            "ls": ("network", "LS", "List networks"),
            "prune": ("prune", "NETWORK", "Remove all unused networks"),
            "rm": ("networks", "RM", "Remove one or more networks"),
        },
    ),
    "pki": Group(
        "Manage certificates of engines that are reached over TCP",
        {
            "crl": ("host", "PKI_CRL", "Make a new revocation list"),
            "csr": ("host", "PKI_CSR", "Make a key and a request for a certificate"),
            "export": ("host", "PKI_EXPORT", "Copy a certificate and its key for its holder"),
            "import": ("host", "PKI_IMPORT", "Use an authority that was made elsewhere"),
            "init": ("host", "PKI_INIT", "Make a certificate authority"),
            "issue": ("host", "PKI_ISSUE", "Issue a certificate with a new key"),
            "renew": ("host", "PKI_RENEW", "Renew certificates"),
            "revoke": ("host", "PKI_REVOKE", "Take certificates back"),
            "sign": ("host", "PKI_SIGN", "Sign a client's request"),
            "status": ("host", "PKI_STATUS", "Show what was issued and what ends when"),
            "verify": ("host", "PKI_VERIFY", "Check certificates"),
        },
    ),
    "policy": Group(
        "Work on policies",
        {
            "diff": ("host", "POLICY_DIFF", "Print what differs between two policies"),
            "explain": ("host", "POLICY_EXPLAIN", "Print what a rule or a field is about"),
            "init": ("host", "POLICY_INIT", "Write a policy to begin with"),
            "test": ("host", "POLICY_TEST", "Run the tests of policies"),
            "merge": ("host", "POLICY_MERGE", "Print several policies or profiles as one"),
            "show": (
                "host",
                "POLICY_SHOW",
                "Print what policies say, and where values are from",
            ),
        },
    ),
    "system": Group(
        "Manage the engine",
        {
            "df": ("df", "COMMAND", "Show disk usage"),
            "dial-stdio": ("dialstdio", "COMMAND", "Carry the daemon's socket on stdin and stdout"),
            "events": TOP["events"],
            "info": TOP["info"],
            "prune": ("prune", "SYSTEM", "Remove unused data"),
            "service": ("service", "COMMAND", "Run the daemon as a systemd user service"),
        },
    ),
    "volume": Group(
        "Manage volumes",
        {
            "create": ("volume", "CREATE", "Create a volume"),
            "inspect": ("inspect", "VOLUME", "Display detailed information on volumes"),
            "ls": ("volume", "LS", "List volumes"),
            "prune": ("prune", "VOLUME", "Remove unused local volumes"),
            "rm": ("volume", "RM", "Remove one or more volumes"),
        },
    ),
}

_ALIASES = {
    ("container", "list"): "ls",
    ("container", "ps"): "ls",
    ("container", "remove"): "rm",
    ("context", "list"): "ls",
    ("context", "remove"): "rm",
    ("image", "list"): "ls",
    ("image", "remove"): "rm",
    ("network", "list"): "ls",
    ("network", "remove"): "rm",
    ("volume", "list"): "ls",
    ("volume", "remove"): "rm",
}


def find(words: list[str]) -> tuple[str, Entry, list[str]] | None:
    """The command that ``words`` name: its path, its entry, and the words after it."""
    name = words[0]
    group = GROUPS.get(name)
    if group is None:
        entry = TOP.get(name)
        return (name, entry, words[1:]) if entry else None
    if len(words) < 2:
        return None
    verb = _ALIASES.get((name, words[1]), words[1])
    entry = group.commands.get(verb)
    return (f"{name} {verb}", entry, words[2:]) if entry else None
