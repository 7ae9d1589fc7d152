"""The HTTP side: takes jobs in, tells how they stand, hands images out."""

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from api import batches, dialects, docs, faults, metrics, provider_pages, services, spec, traces, web
from api.account import account
from api.forms import Request
from api.health import health
from api.keys import keys
from api.media import media
from api.native import jobs, models
from api.webhooks import webhooks
from shared.settings import Settings


def create_app(settings: Settings, *, parts: services.Services | None = None) -> Flask:
    """Return the WSGI app. Nothing is connected to before it is used; tests pass `parts` of their own."""
    app = Flask(__name__, static_folder=None)  # there are no files to serve
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Forms may hold pictures as text, and JSON may call itself a form: the bound above is the only one.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    app.config["PROPAGATE_EXCEPTIONS"] = False
    if isinstance(app.json, DefaultJSONProvider):
        app.json.sort_keys = False
    parts = parts or services.Services.from_settings(settings)
    services.install(parts, app.extensions)
    web.install(app, settings)
    traces.install(app)
    parts.limits.install(app)
    metrics.install(app)
    faults.install(app)
    batches.install(app)
    api = spec.install(app)
    for blueprint in (account, keys, jobs, batches.batches, models, webhooks):
        api.register_blueprint(blueprint)
    for plain in (health, metrics.metrics, media, docs.docs):
        app.register_blueprint(plain)
    dialects.install(app)
    api.add_chapter(lambda: provider_pages.describe(app, api.spec))
    return app
