"""
The service that `benchmarks.service` compares with: `generate()` of transformers behind FastAPI.

    python -m benchmarks.service_reference MODEL

It makes one clip at a time and meanwhile refuses other requests with 503.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
import threading
import warnings
from typing import Any

import numpy as np
import torch
import transformers as hf
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from tokenizers import Tokenizer

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.engine import hardware


class Request(BaseModel):
    """A request for a clip; the fields and defaults are those of `musicgen serve`."""

    prompt: str = ""
    duration: float = 10.0
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.9
    guidance_scale: float = 3.0
    do_sample: bool = True


def main() -> None:
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(hardware.cores())
    model: Any = hf.MusicgenForConditionalGeneration.from_pretrained(sys.argv[1]).eval()
    tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
    rate = model.config.audio_encoder.sampling_rate
    busy = threading.Lock()
    app = FastAPI()

    def make(request: Request) -> dict[str, Any]:
        ids = torch.tensor([tokenizer.encode(request.prompt).ids])
        samples = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=request.do_sample,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            guidance_scale=request.guidance_scale,
            max_new_tokens=int(request.duration * model.config.audio_encoder.frame_rate),
        )[0, 0].numpy()
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        return {
            "audio_base64": base64.b64encode(pcm16_wav(pcm, sample_rate=rate, channels=1)).decode(),
            "sample_rate": rate,
            "duration": len(samples) / rate,
            "num_samples": len(samples),
            "channels": 1,
            "prompt": request.prompt,
        }

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        if not busy.acquire(blocking=False):
            raise HTTPException(503, "Service is busy processing another request")
        try:
            return await asyncio.to_thread(make, request)
        finally:
            busy.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
