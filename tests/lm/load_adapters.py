"""Run as a separate process without ctxblocks: adapters loaded by PEFT, and the logits of one token."""

import json
import sys
from pathlib import Path

import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

for job in json.loads(Path(sys.argv[1]).read_text()):
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"]), experts_implementation="eager"
    )
    adapted = PeftModel.from_pretrained(model, job["adapter"]).eval()
    ids = torch.tensor([[job["token"]]])
    with torch.no_grad():
        logits = adapted(
            input_ids=ids, position_ids=torch.tensor([[job["position"]]]), attention_mask=torch.ones_like(ids)
        ).logits
    safetensors.torch.save_file({"logits": logits[0].contiguous()}, job["out"])
assert "ctxblocks" not in sys.modules
