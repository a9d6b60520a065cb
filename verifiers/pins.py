"""Commits of hub repositories at which their weights are loaded unless another revision is asked for.

A branch may move, and with it every score; a commit can't. Repositories that are not listed load from "main".
"""

_COMMITS = {
    "CompVis/stable-diffusion-safety-checker": "cb41f3a270d63d454d385fc2e4f571c487c253c5",
    "Falconsai/nsfw_image_detection": "96cb0d0342c7afb80cab76ecc58b265fa44da256",
    "MizzenAI/HPSv3": "4f81e3e09edd82fe3c5f636444c721b592a735ca",
    "Qwen/Qwen2-VL-7B-Instruct": "eed13092ef92e448dd6875b2a00151bd3f7db0ac",
    "Qwen/Qwen3-VL-2B-Instruct": "89644892e4d85e24eaac8bacfd4f463576704203",
    "Qwen/Qwen3-VL-4B-Instruct": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "THUDM/ImageReward": "9fabc279a94f082f9eb130070cac021569dd16dc",
    "bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",  # the old name, which open_clip uses
    "facebook/dinov2-base": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    "timm/vit_large_patch14_clip_224.openai": "18d0535469bb561bf468d76c1d73aa35156c922b",
    "xswu/HPSv2": "697403c78157020a1ae59d23f111aa58ced35b0a",
    "yuvalkirstain/PickScore_v1": "a4e4367c6dfa7288a00c550414478f865b875800",
}


def commit(repository: str, revision: str | None = None) -> str:
    """The revision asked for, else the pinned commit, else "main"."""
    return revision or _COMMITS.get(repository, "main")
