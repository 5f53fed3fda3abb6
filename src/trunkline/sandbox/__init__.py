"""Stateful, strict fakes of outside services, with faults on demand; runs alone, without the hub."""

from trunkline.sandbox.app import Sandbox, build_sandbox
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.server import SandboxServer, serve_sandbox

__all__ = ["Sandbox", "SandboxOptions", "SandboxServer", "build_sandbox", "serve_sandbox"]
