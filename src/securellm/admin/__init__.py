"""What operators call: the control-plane API with health and metrics, on a listener of its own."""

from securellm.admin.app import UndeclaredPermission, build_admin
from securellm.admin.keys import ThreadedKeys
from securellm.admin.ports import KeyEvent, Keys, Part, Ports

__all__ = ["KeyEvent", "Keys", "Part", "Ports", "ThreadedKeys", "UndeclaredPermission", "build_admin"]
