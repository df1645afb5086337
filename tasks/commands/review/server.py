"""Serve the review page to readers on this machine, without a hint at which slices are real.

Every slice is sent as raw bytes of one length, under a random id, with the same headers, out of
memory. A reader's order is random. A token in the link, then in a cookie, admits a browser.
"""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from tasks.commands.review.answers import CRITERION_TEXTS, Answer
from tasks.commands.review.reading_session import ReadingSession
from tasks.schemas.review import ARTEFACT_KINDS
from tasks.stage.errors import InputError

TEMPLATES: Final = Path(__file__).parent / "templates"
COOKIE: Final = "auglift_review"
STATIC_FILES: Final = ("review.js", "viewer.js", "outline.js", "review.css")
LOOPBACK: Final = ("127.0.0.1", "localhost")
MAX_BODY_BYTES: Final = 8 * 2**20
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
WRONG_TOKEN = (
    "This link does not open the study (any more). Open the link that `auglift review` printed"
    " last; each start makes a new one."
)
WRONG_HOST = "This page answers only under the address that `auglift review` printed."


def make_app(session: ReadingSession, *, token: str, host: str | None = None) -> FastAPI:
    """Make the web application of one study.

    Args:
        session: the study.
        token: admits a browser.
        host: a name under which a proxy passes requests on, besides loopback.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    add_admission(app, pages, token=token, host=host)
    add_pages(app, pages, session)
    add_api(app, session)
    return app


def add_admission(app: FastAPI, pages: jinja2.Environment, *, token: str, host: str | None) -> None:
    """Let in who has the token, and answer everything else with one clear line or page."""

    def error_response(request: Request, message: str, code: int) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": message}, code)
        page = pages.get_template("message.html.j2")
        return HTMLResponse(page.render(title="Not opened", message=message), code)

    @app.middleware("http")
    async def admit(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        name = (request.headers.get("host") or "").partition(":")[0]
        given = request.query_params.get("token")
        cookie = request.cookies.get(COOKIE, "")
        response: Response
        if name not in LOOPBACK and name != host:
            response = error_response(request, WRONG_HOST, 400)
        elif given is not None and secrets.compare_digest(given.encode(), token.encode()):
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, token, httponly=True, samesite="lax", path="/")
        elif given is not None or not (
            request.url.path.startswith("/static/")  # the page that refuses needs its style
            or secrets.compare_digest(cookie.encode(), token.encode())
        ):
            response = error_response(request, WRONG_TOKEN, 403)
        elif content_length(request) > MAX_BODY_BYTES:
            response = error_response(request, "The answer is too large.", 413)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(StarletteHTTPException)
    async def explain(request: Request, error: StarletteHTTPException) -> Response:
        default = {404: "There is no such page.", 405: "This address takes no such request."}
        known = error.detail not in ("Not Found", "Method Not Allowed")
        message = error.detail if known else default[error.status_code]
        return error_response(request, message, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def explain_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][1:]))
        return error_response(request, f"{key}: {first['msg']}".removeprefix(": "), 422)


def content_length(request: Request) -> int:
    """Return the length that a request declares, in bytes; more than allowed for nonsense."""
    declared = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or not declared.isdecimal():
        return MAX_BODY_BYTES + 1
    return int(declared)


def add_pages(app: FastAPI, pages: jinja2.Environment, session: ReadingSession) -> None:
    """Add the pages that a reader opens."""

    @app.get("/")
    def show_page(name: str = Query(session.reader or "", alias="reader")) -> HTMLResponse:
        message = ""
        if name:
            try:
                session.check_reader(name)
            except InputError as error:
                message = str(error)
        if message or not name:
            start = pages.get_template("start.html.j2").render(
                message=message, readers=session.store.readers(),
                slices=len(session.store.slices),
            )  # fmt: skip
            return HTMLResponse(start, 422 if message else 200)
        page = pages.get_template("review.html.j2").render(
            reader=name, criteria=CRITERION_TEXTS, kinds=ARTEFACT_KINDS
        )
        return HTMLResponse(page)

    @app.get("/static/{name}")
    def static_file(name: str) -> Response:
        if name not in STATIC_FILES:
            raise HTTPException(404, "There is no such file.")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response((TEMPLATES / name).read_bytes(), media_type=kind)


def add_api(app: FastAPI, session: ReadingSession) -> None:
    """Add what the page's script asks for."""

    @app.get("/api/study")
    def study(name: str = Query(alias="reader")) -> dict[str, Any]:
        try:
            return session.open(name)
        except InputError as error:
            raise HTTPException(422, str(error)) from None

    @app.get("/api/slices/{reading}")
    def slice_bytes(reading: str) -> Response:
        payload = session.slice_payload(reading)
        if payload is None:
            raise HTTPException(404, "There is no such slice in this study.")
        return Response(payload, media_type="application/octet-stream")

    @app.put("/api/answers/{reading}")
    def save_answer(
        reading: str, answer: Answer, name: str = Query(alias="reader")
    ) -> dict[str, bool]:
        try:
            saved = session.save(reading, name, answer)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        if not saved:
            raise HTTPException(404, "There is no such slice in this reader's study.")
        return {"saved": True}
