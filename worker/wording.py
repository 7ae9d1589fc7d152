"""The prompts that are drawn, out of those that were written: with the style's phrases, then the enrichment."""

from shared.enhance import enhance
from shared.spec import JobSpec
from shared.styles import apply


def worded(spec: JobSpec) -> tuple[str, str]:
    """Return prompt and negative prompt as used."""
    prompt, negative = spec.prompt, spec.negative_prompt
    if spec.style_preset is not None:
        prompt, negative = apply(spec.style_preset, prompt, negative)
    if spec.enhance_prompt:
        prompt, negative = enhance(prompt, negative)
    return prompt, negative
