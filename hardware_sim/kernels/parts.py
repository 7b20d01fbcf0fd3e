"""How numba compiles a part of kernels: to code that kernels take in, without machine code of its own.

By default numba optimises each function for itself and translates it, then links it into its callers, where
all of it is optimised and translated once more. Nothing calls a part but a kernel, which does both for all
its parts at once: that takes a fifth less time.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

__all__ = ["PartCompiler"]


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code of a part, left as it is until a kernel links it in."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):  # type: ignore[misc]
    """Translation to LLVM code into such a library."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        context, flags = state.targetctx, state.flags.copy()
        flags.no_compile = True
        state.flags = flags
        state.library = _PartLibrary(context.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        lowered = state["cr"]
        module, name = lowered.fndesc.lookup_module(), state.func_id.func_name
        held = (state.library,)
        function = _dynfunc.make_function(module, name, "a part of kernels", 0, lowered.env, held)
        context.insert_user_function(function, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=function)
        return True


class PartCompiler(CompilerBase):  # type: ignore[misc]
    """The default passes of numba with another translation."""

    def define_pipelines(self) -> list[Any]:
        """The only pipeline: nopython mode."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_PartLowering, text) if each is NativeLowering else (each, text)
            for each, text in passes.passes
        ]
        passes.finalize()
        return [passes]
