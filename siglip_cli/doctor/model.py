"""The checkpoint, as a gateway reads it."""

from siglip_cli.doctor.findings import Finding
from siglip_settings import ModelSettings


def check_model(settings: ModelSettings) -> tuple[Finding, str]:
    """What was found, and the fingerprint; empty when the checkpoint cannot be served."""
    from gateway.errors import StartError
    from gateway.served import ServedModel

    try:
        model = ServedModel.load(settings)
    except StartError as error:
        return Finding("problem", "model", str(error), "correct --model (SIGLIP_MODEL) or --more-models"), ""
    text = f"{model.name}, {model.image_size} px, {model.text_length} tokens, fingerprint {model.fingerprint}"
    return Finding("ok", "model", text), model.fingerprint
