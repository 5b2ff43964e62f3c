"""What an arm says when it cannot run here."""


class UnavailableError(Exception):
    """What is installed, or the device, does not have what the arm needs."""
