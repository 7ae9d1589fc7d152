"""A job's names -> the catalog's, where they go together."""

from dataclasses import replace

from shared.catalog.catalog import Catalog
from shared.catalog.entries import Asset, Kind, Model
from shared.errors import InvalidField
from shared.spec import JobSpec


def fitted(spec: JobSpec, catalog: Catalog, *, account: str = "") -> JobSpec:
    """Return the job with the catalog's own names, and every textual inversion with its trigger.

    Raises `InvalidField` naming the field where the account, by its name, may use no such thing, or where it is made
    for another family of models than the job's.
    """
    model = catalog.resolve(spec.model, account=account)

    def named(kind: Kind, name: str) -> Asset:
        return _fitting(model, catalog.resolve_asset(kind, name, account=account))

    inversions = [(named(Kind.TEXTUAL_INVERSION, name), name, trigger) for name, trigger in spec.textual_inversions]
    triggered = tuple((asset.name, trigger or next(iter(asset.triggers), name)) for asset, name, trigger in inversions)
    if len({trigger.casefold() for _, trigger in triggered}) < len(triggered):
        raise InvalidField("textual_inversions", "must have a trigger each, unlike the others'")
    return spec.evolve(
        model=model.name,
        loras=tuple(replace(lora, name=named(Kind.LORA, lora.name).name) for lora in spec.loras),
        vae=None if spec.vae is None else named(Kind.VAE, spec.vae).name,
        textual_inversions=triggered,
        controlnets=tuple(replace(net, name=named(Kind.CONTROLNET, net.name).name) for net in spec.controlnets),
    )


def _fitting(model: Model, asset: Asset) -> Asset:
    if asset.base != model.base:
        raise InvalidField(
            asset.kind.field,
            f"the {asset.kind.noun} {asset.name!r} is made for {asset.base}; the model {model.name!r} is {model.base}",
        )
    return asset
