"""A 1-bit LLaMA from nothing to llama.cpp, which writes what the packed model writes.

Tokenizer and weights are learned here, on the text of Python's manual. A GGUF file carries both.
`python llama_cpp.py bc 800` trains for 800 steps by the pair bc. llama.cpp runs here with `pip install xllamacpp`.
"""

import sys
from pydoc_data.topics import topics

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import proxconnect as pc
from proxconnect.export import to_gguf

PAIR = sys.argv[1] if len(sys.argv) > 1 else "bc"
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 800
BATCH, LENGTH, WORDS, PROMPT = 16, 64, 1024, "The class statement"

torch.manual_seed(0)
learned = ByteLevelBPETokenizer()
learned.train_from_iterator(topics.values(), vocab_size=WORDS, special_tokens=["</s>"], show_progress=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, eos_token="</s>")
text = torch.tensor(tokenizer("\n".join(topics.values())).input_ids)
windows = text.unfold(0, LENGTH, LENGTH)

# All matrices but the embedding and the head are ±scale, one scale for 128 inputs of an output, as in GGUF's Q1_0.
sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
config = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None, **sizes)
model = pc.binarize(LlamaForCausalLM(config), PAIR, example={"input_ids": windows[:1]}, group_size=128)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0)
decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.004, total_steps=STEPS)
pc.Sharpening(optimizer, model, steps=STEPS)
for step in range(STEPS):
    batch = windows[torch.randint(len(windows), (BATCH,))]
    loss = model(batch, labels=batch).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    decay.step()
    if step % 100 == 0 or step == STEPS - 1:
        print(f"step {step}: {loss:.2f} a token")

packed = pc.pack(model.eval())
to_gguf(packed, "llama.gguf", tokenizer=tokenizer)
prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
written = packed.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
print("here:     ", repr(tokenizer.decode(written[0])))

try:
    import xllamacpp
except ImportError:
    print(f"llama.cpp: run it with  llama-cli -m llama.gguf -p '{PROMPT}'")
else:
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.verbosity, options.warmup = "llama.gguf", 512, 0, False
    answer = xllamacpp.Server(options).handle_completions({"prompt": PROMPT, "n_predict": 40, "temperature": 0})
    print("llama.cpp:", repr(PROMPT + answer["choices"][0]["text"]))
