# What `import heedful` offers, for type checkers and editors; `heedful.api` reads the names from here.

from heedful.api import collate as collate
from heedful.api import leave_one_out as leave_one_out
from heedful.api import load_learner as load_learner
from heedful.api import load_reward as load_reward
from heedful.api import logprobs as logprobs
from heedful.api import rollout as rollout
from heedful.api import run as run
from heedful.api import score as score
from heedful.api import scored as scored
from heedful.api import tasks as tasks
from heedful.data.sources import read_comparisons as read_comparisons
from heedful.data.sources import read_prompts as read_prompts
from heedful.engine import load_engine as load_engine
from heedful.envs import Chat as Chat
from heedful.envs import Limits as Limits
from heedful.envs import load_env as load_env
from heedful.errors import UserError as UserError
from heedful.learner.local import Loss as Loss
from heedful.losses.advantages import gae as gae
from heedful.losses.kl import k3 as k3
from heedful.losses.policy import ppo_clip as ppo_clip
from heedful.losses.preference import dpo as dpo
from heedful.models.adapters import reference_of as reference_of
from heedful.models.load import load_policy as load_policy
from heedful.models.load import load_tokenizer as load_tokenizer
from heedful.raters.panel import judges as judges
from heedful.registry import register as register
from heedful.serving import serve_episodes as serve_episodes
from heedful.store.database.db import open_store as open_store
from heedful.types import Message as Message
from heedful.types import Sampling as Sampling
from heedful.types import Task as Task

__version__: str
__all__: list[str]
