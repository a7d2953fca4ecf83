"""What makes a stage run again."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from instar.config import InputError, load_yaml
from instar.config.recipe import read_recipe
from instar.grow import life
from instar.grow.life import Life
from instar.train.task import check_heeded, check_shape


def test_another_list_of_words_makes_another_tokenizer(tmp_path, monkeypatch):
    """The same recipe is skipped; a words file that changed is an input that changed, and the old folder is kept."""
    made = []
    monkeypatch.setattr("instar.grow.life.train_tokenizer", lambda options: made.append(options.words) or {})
    words = tmp_path / "words.txt"
    recipe = read_recipe({
        "name": "w", "tokenizer": {"data": ["world:stories?count=3"], "words": [str(words)]},
        "pretrain": {"data": ["world:stories?count=3"]}, "sft": {"data": ["world:dialogues?count=3"]},
    })  # fmt: skip
    for text, times in (("塔楼\n", 1), ("塔楼\n", 1), ("塔楼\n闹钟\n", 2)):
        words.write_text(text, encoding="utf-8")
        one = Life(recipe, tmp_path / "out", device="cpu", quiet=True, say=lambda text: None, counting=None)
        one._claim()
        one._tokenizer()
        assert len(made) == times
    assert (tmp_path / "out" / "tokenizer.1").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tests": [{"of": "sft", "eval": {"data": ["x"]}}]}, r"unknown stage of tests\[0\] sft"),
        ({"tests": [{"of": "pretrain"}]}, r"tests\[0\].eval.data is missing"),
        ({"exam": {"data": ["x"]}}, "sft.data is missing, and the exam asks"),
        ({"lessons": {"data": ["x"]}}, "sft.data is missing, and lessons"),
        ({"dpo": {"data": ["x"]}}, "unknown value of dpo.model, a stage before it that speaks: sft"),
        (
            {"sft": {"data": ["x"]}, "reward": {"data": ["x"]}, "dpo": {"data": ["x"], "model": "reward"}},
            "dpo.model, a stage before it that speaks: reward.*known: pretrain, sft",
        ),
        ({"sft": {"data": ["x"]}, "ppo": {"prompts": ["x"]}}, "no reward: name the folder"),
        (
            {"sft": {"data": ["x"]}, "ppo": {"prompts": ["x"], "reward": ["0.5*reward"]}},
            "ppo.reward names the reward model of this life, and reward.data is missing",
        ),
        (
            {"sft": {"data": ["x"]}, "grpo": {"prompts": ["x"], "reward": ["mine:score"]}},
            "grpo.reward names the function mine:score; Python is run from the flag alone",
        ),
    ],
)
def test_recipes_that_cannot_be_lived(changes, message):
    """A measurement of a stage that is not there, an exam without lessons: told before anything is made."""
    with pytest.raises(InputError, match=message):
        read_recipe({"tokenizer": {"data": ["x"]}, "pretrain": {"data": ["x"]}} | changes)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_read(path):
    """No recipe names an option that does not exist, and each model can learn its objective."""
    recipe = read_recipe(load_yaml(path))
    check_shape(recipe.pretrain.objective, recipe.pretrain.model)
    check_heeded(recipe.pretrain)


TUNED = {
    "name": "t", "seed": 7, "tokenizer": {"data": ["world:stories?count=3"]},
    "pretrain": {"data": ["world:stories?count=3"]}, "sft": {"data": ["world:dialogues?count=3"]},
    "reward": {"data": ["world:preferences?count=3"]}, "dpo": {"data": ["world:preferences?count=3"]},
    "exam": {"data": ["world:dialogues?split=test&count=3"], "beside": ["world:dialogues?split=test&count=3"]},
}  # fmt: skip


@pytest.fixture
def living(tmp_path, monkeypatch):
    """Live a recipe whose stages learn nothing; returns the report and what happened, in order."""

    def live(recipe):
        happened, paid = [], []

        def stage(name):
            def run(options, *, say):
                happened.append((name, Path(options.model).name if name != "pretrain" else ""))
                paid.extend(getattr(options, "reward", ()) if name != "reward" else ())
                assert options.seed == 7
                return {"stage": name}

            return run

        def examine(model, tokenizer, options, *, taught, each):
            happened.append(("exam", model, len(options.beside), bool(taught)))
            row = {"questions": 3, "exact": 0.5, "ended": 1.0}
            return {"scores": {"en": {"all": row}}} | ({"controls": {"en": {"all": {}}}} if taught else {})

        for name in ("pretrain", "sft", "reward", "dpo"):
            monkeypatch.setattr(life.stages, name, stage(name))
        for name in ("ppo", "grpo"):
            monkeypatch.setattr(life.reinforce, name, stage(name))
        monkeypatch.setattr(life, "train_tokenizer", lambda options: {})
        monkeypatch.setattr(life, "load", lambda folder: (folder.name, None))
        monkeypatch.setattr(life, "examine", examine)
        monkeypatch.setattr(life, "talk", lambda model, tokenizer, options: [{"user": "Hi", "answer": model}])
        monkeypatch.setattr(life, "verify", lambda folder: {"same": True, "readers": {}})
        monkeypatch.setattr(life, "architecture", lambda folder: "LlamaForCausalLM")
        monkeypatch.setattr(life, "draw_losses", lambda runs, path, *, say: happened.append(tuple(runs)))
        one = Life(
            read_recipe(recipe), tmp_path / "out", device="cpu", quiet=True, say=lambda text: None,
            counting=lambda what, total: nullcontext(lambda done: None),
        )  # fmt: skip
        return one.grow() | {"paid": paid}, happened

    return live


def test_a_life_goes_on_through_preference_tuning(living):
    """Reward model and DPO begin with the model of SFT; the exam is taken once more after DPO, without the harder
    questions and the controls; what was said before stands beside what the finished model says."""
    report, happened = living(TUNED)
    assert happened == [
        ("pretrain", ""), ("exam", "pretrain", 1, False), ("sft", "pretrain"), ("exam", "sft", 1, True),
        ("reward", "sft"), ("dpo", "sft"), ("exam", "dpo", 0, False), ("pretrain", "sft", "reward", "dpo"),
    ]  # fmt: skip
    assert list(report["exam"]) == ["before", "after", "dpo"]
    assert report["finished"] == "dpo"
    assert report["exchanges"] == [{"user": "Hi", "answer": "dpo", "before": "sft"}]


def test_preference_tuning_is_skipped_and_done_again_like_other_stages(living, tmp_path):
    """Nothing is done twice; other pairs for DPO do DPO again and leave the reward model; another SFT does both."""
    living(TUNED)
    assert [one for one in living(TUNED)[1] if len(one) == 2] == []
    other = TUNED | {"dpo": {"data": ["world:preferences?count=4"]}}
    assert [one for one in living(other)[1] if len(one) == 2] == [("dpo", "sft")]
    assert (tmp_path / "out" / "dpo.1").is_dir()
    taught = other | {"sft": {"data": ["world:dialogues?count=4"]}}
    assert [one for one in living(taught)[1] if len(one) == 2] == [
        ("sft", "pretrain"),
        ("reward", "sft"),
        ("dpo", "sft"),
    ]


def test_a_reward_model_alone_is_not_who_talks(living):
    """Where nothing was tuned by it, the finished model is still that of SFT."""
    report, _ = living({name: part for name, part in TUNED.items() if name != "dpo"})
    assert report["finished"] == "sft"
    assert report["exchanges"] == [{"user": "Hi", "answer": "sft"}]
    assert list(report["exam"]) == ["before", "after"]


def test_rewards_may_be_paid_by_the_reward_model_of_the_life(living, tmp_path):
    """PPO begins where it is told to and is paid by the reward model beside a function; another reward model does it
    again, and GRPO, which is paid by the function alone, stays."""
    paid = {"prompts": ["world:prompts?count=3"]}
    recipe = TUNED | {
        "ppo": paid | {"model": "dpo", "reward": ["0.5*reward", "instar.data.world:check"]},
        "grpo": paid | {"reward": ["instar.data.world:check"]},
    }
    report, happened = living(recipe)
    assert [one for one in happened if len(one) == 2][3:] == [("dpo", "sft"), ("ppo", "dpo"), ("grpo", "sft")]
    check = "instar.data.world:check"
    assert report["paid"] == [f"0.5*{tmp_path / 'out' / 'reward'}", check, check]
    assert (report["finished"], list(report["exam"])) == ("grpo", ["before", "after", "dpo", "ppo", "grpo"])
    other = recipe | {"reward": {"data": ["world:preferences?count=4"]}}
    assert [one for one in living(other)[1] if len(one) == 2] == [("reward", "sft"), ("ppo", "dpo")]
