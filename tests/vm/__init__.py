"""What only a machine with delegated cgroup controllers and SELinux shows; ``ci/vm`` runs it."""
