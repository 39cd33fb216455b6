"""The examples of docs/own-loop.md run as they stand, and give what they promise."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs/own-loop.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)

LIGHTNING = """
weighting = build_weighting("lsb", ("steering", "drowsiness"), priorities=(0.3, 0.7))
start = {name: value.clone() for name, value in network.state_dict().items()}
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
optimizer.zero_grad()
for epoch in range(3):
    for number, batch in enumerate(batches):
        (weighting(losses_of(*batch)) / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
            weighting.step()
    weighting.end_period()
expected = {name: value.clone() for name, value in network.state_dict().items()}
network.load_state_dict(start)
trainer = lightning.Trainer(
    callbacks=[callback], max_epochs=3, accelerator="cpu", accumulate_grad_batches=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(driver, torch.utils.data.DataLoader(batches, batch_size=None))
assert torch.allclose(driver.weighting.weights, weighting.weights, rtol=1e-6)
for name, value in network.state_dict().items():
    assert torch.allclose(value, expected[name], atol=1e-6), name
print("equal")
"""

HUGGING_FACE = """
from transformers import TrainingArguments

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network
        self.weighting = build_weighting("lsb", ("steering", "drowsiness"), priorities=(0.3, 0.7))

    def forward(self, images, angles, drowsy):
        return {"losses": losses_of(images, angles, drowsy)}

rows = [
    {"images": i, "angles": a, "drowsy": d} for batch in batches for i, a, d in zip(*batch)
]
model = Model()
trainer = WeightedTrainer(
    model=model,
    args=TrainingArguments(
        output_dir="out", num_train_epochs=3, per_device_train_batch_size=32, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True, label_names=[],
    ),
    train_dataset=rows,
    callbacks=[WeightingCalls(model.weighting)],
)
trainer.train()
assert model.weighting.difficulties is not None
assert not torch.equal(model.weighting.weights, torch.tensor([0.3, 0.7], dtype=torch.float64))
print("trained")
"""


def examples(*words: str) -> str:
    """Return the blocks that hold one of the words; without words those that need no library."""
    optional = ("ddp.py", "lightning", "transformers")
    if words:
        return "\n".join(block for block in BLOCKS if any(word in block for word in words))
    return "\n".join(block for block in BLOCKS if not any(word in block for word in optional))


def output_of(script: str, folder: Path, *launcher: str) -> str:
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, *launcher, str(path)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_examples_run_without_the_rest_of_the_project_and_lightning_as_the_plain_loop(
    tmp_path: Path,
) -> None:
    others = "import sys\nassert not {'ray', 'timm', 'pandas', 'plotly'} & set(sys.modules)\n"
    script = examples() + others + BLOCKS[0] + examples("lightning") + LIGHTNING
    output = output_of(script, tmp_path)
    assert "tensor" in output
    assert output.endswith("equal\n")


RESUMED = """
import sys
from pathlib import Path

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, n):
        generator = torch.Generator().manual_seed(n)
        angle = torch.randn(1, generator=generator)
        return torch.randn(8, generator=generator), angle, (angle > 0).float()

def fit(folder, epochs, resume=None):
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    driver = Driver()
    trainer = lightning.Trainer(
        callbacks=[WeightingCallback(driver.weighting)], max_epochs=epochs, accelerator="cpu",
        accumulate_grad_batches=2,
        devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )
    loader = torch.utils.data.DataLoader(Data(), batch_size=8, shuffle=False)
    told = []
    driver.weighting.step = lambda: told.append(trainer.global_step)
    trainer.fit(driver, loader, ckpt_path=resume)
    # Two optimizer steps an epoch of four micro-batches; a resumed run tells of its own alone.
    assert told == [3, 4] if resume else told == list(range(1, 2 * epochs + 1)), told
    if resume is None and epochs == 1:
        trainer.save_checkpoint(Path(folder, "one.ckpt"))
    return driver.weighting

torch.set_printoptions(precision=17)
whole = fit("a", 2).state_dict()
fit("b", 1)
resumed = fit("b", 2, Path("b", "one.ckpt")).state_dict()
rank = torch.distributed.get_rank()
assert str(whole) == str(resumed)
Path(f"rank{rank}").write_text(str(whole))
"""


@pytest.mark.slow
def test_lightning_trains_on_two_processes_and_resumes(tmp_path: Path) -> None:
    output_of(BLOCKS[0] + examples("lightning") + RESUMED, tmp_path)
    first, second = ((tmp_path / f"rank{rank}").read_text() for rank in (0, 1))
    assert first == second


@pytest.mark.slow
def test_ranks_of_the_example_agree(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    one, other = output_of(examples("ddp.py"), tmp_path, *launcher).split("\n")[:2]
    assert one == other


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_hugging_face_trainer_calls_the_weighting(tmp_path: Path) -> None:
    script = BLOCKS[0] + examples("transformers") + HUGGING_FACE
    assert "trained" in output_of(script, tmp_path)
