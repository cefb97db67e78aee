"""`ebbtide calibrate`: from files of records to a model file and a report, on the command line."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from enrichment.calibration.as_lived.live_through import live_through
from enrichment.model import Model, load_model
from schemas.documents import ChangeDocument
from streams.cli.commands import main
from streams.insight.calibrate import calibration_text
from tests.once import Once

CDNOW = Path(__file__).parents[1] / "data" / "cdnow" / "CDNOW_sample.txt"
Document = dict[str, Any]


def record(number: int, customer: str, on: dt.date, total: str, kind: str = "order") -> Document:
    return {
        "event_id": f"e{number}",
        "customer_id": customer,
        "occurred_at": f"{on.isoformat()}T12:00:00Z",
        "kind": kind,
        "order_id": f"o{number}",
        "currency": "USD",
        "total": total,
    }


def write(path: Path, records: Iterable[Document]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in records), encoding="utf-8")
    return path


def cdnow() -> list[Document]:
    """The orders of the sample, by its own ids."""
    records = []
    for number, line in enumerate(CDNOW.read_text().splitlines()):
        _, customer, date, _, dollars = line.split()
        records.append(record(number, customer, dt.date.fromisoformat(date), dollars))
    return records


def strictly(path: Path) -> Document:
    """JSON without NaN and infinity, which Python would otherwise read."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} in {path.name}")

    found: Document = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    return found


def calibrate(folder: Path, purchases: Path, *options: str) -> int:
    outputs = ["--out", str(folder / "model.yaml"), "--report", str(folder / "report.json")]
    return main(["calibrate", "--purchases", str(purchases), *outputs, *options])


FEW = 100
LIVED, WEEKLY = (f"streams.insight.calibrate.{name}_CUSTOMERS" for name in ("LIVED", "WEEKLY"))


@pytest.fixture(autouse=True)
def few_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay few customers as lived, and look at few week by week: most tests ask for something else."""
    monkeypatch.setattr(LIVED, FEW)
    monkeypatch.setattr(WEEKLY, FEW)


CDNOW_OPTIONS = (
    *("--until", "1998-06-30T23:59:59Z", "--holdout-days", "273", "--time-unit", "week"),
    *("--window-days", "90"),
)


@pytest.fixture(scope="module")
def of_cdnow(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what calibrate makes of CDNOW, and with the changes that its replay made."""

    def calibrated() -> Path:
        folder = tmp_path_factory.mktemp("cdnow")
        purchases = write(folder / "purchases.jsonl", cdnow())

        def noting(changes: list[ChangeDocument], *others: Any) -> Document:
            (folder / "changes.json").write_text(json.dumps(changes))
            return live_through(changes, *others)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("streams.insight.calibrate.live_through", noting)
            patched.setattr(LIVED, 600)
            patched.setattr(WEEKLY, 600)
            assert calibrate(folder, purchases, *CDNOW_OPTIONS, "--html", str(folder / "report.html")) == 0
        return folder

    return once("calibrated to CDNOW", calibrated)


def test_cdnow_gets_the_published_figures(of_cdnow: Path) -> None:
    """Fader, Hardie and Lee (2005) for BG/NBD and Pareto/NBD; Fader and Hardie (2013), note 025, for Gamma-Gamma."""
    lifetime = strictly(of_cdnow / "report.json")["lifetime_value"]
    published = {
        "bg_nbd": ({"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}, -9582.429),
        "pareto_nbd": ({"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}, -9594.976),
        "gamma_gamma": ({"p": 6.25, "q": 3.74, "gamma": 15.44}, -4055.918),
    }
    within = {"alpha": 0.02, "beta": 0.02, "gamma": 0.02, "p": 0.005, "q": 0.005}
    for family, (parameters, log_likelihood) in published.items():
        fit = lifetime["models"][family]
        assert fit["status"] == "converged"
        assert fit["log_likelihood"] == pytest.approx(log_likelihood, abs=0.01)
        for name, value in parameters.items():
            assert fit["parameters"][name] == pytest.approx(value, abs=within.get(name, 0.002)), (
                family,
                name,
            )
    holdout = lifetime["holdout"]
    assert holdout["days"] == 273
    assert holdout["bg_nbd"]["correlation"] >= 0.625
    assert holdout["pareto_nbd"]["correlation"] >= 0.629
    assert min(holdout[family]["top_decile_share"] for family in ("bg_nbd", "pareto_nbd")) >= 0.46
    assert holdout["auc_probability_active"] >= 0.72
    assert holdout["auc_churn_risk"] >= 0.765
    assert holdout["auc_recency"] == pytest.approx(0.771, abs=0.001)


def test_the_model_file_is_a_model_that_says_what_it_was_fitted_to(of_cdnow: Path) -> None:
    """It is fitted up to `--until`, not to the cut, so its parameters are not those of the report's models."""
    model = load_model(of_cdnow / "model.yaml")
    report = strictly(of_cdnow / "report.json")
    assert (model.name, model.version) == ("calibrated", "1998-06-30")
    assert model.fingerprint != load_model().fingerprint
    assert model.calibration is not None
    assert (model.calibration.until, model.calibration.customers) == ("1998-06-30", 2357)
    assert model.calibration.segments["high"].days == 273
    assert model.lifetime_value.time_unit == "week"
    assert model.lifetime_value.purchases.family == report["lifetime_value"]["chosen"] == "recalibrated"
    assert (
        model.lifetime_value.purchases.r
        != report["lifetime_value"]["models"]["pareto_nbd"]["parameters"]["r"]
    )


def test_the_report_tells_what_the_stream_did_after_the_cut(of_cdnow: Path) -> None:
    """With finite figures, and their intervals around them."""
    report = strictly(of_cdnow / "report.json")
    lived = report["lived"]
    assert (lived["window_days"], lived["reason"]) == (90, None)
    assert lived["period"] == {"from": "1997-10-01", "until": "1998-06-30", "days": 273}
    assert lived["panel"]["count"] == (273 - 90) // 7 + 1
    both = lived["warned"]["at_risk_or_lapsed"]
    assert 0 < both["alarms"] == sum(lived["warned"][name]["alarms"] for name in ("at_risk", "lapsed"))
    for name in ("precision", "recall", "recall_ratio"):
        low, high = both[f"{name}_interval"]
        assert low <= both[name] <= high
    assert 0 < lived["silences"]["lapsers"] < lived["silences"]["silences"]
    assert 0 < lived["capture"]["high"]["revenue_share"] < 1
    assert all(part["per_customer_year"] >= 0 for part in lived["there_and_back"].values())
    assert "As lived" in (of_cdnow / "report.html").read_text("utf-8")


def test_what_the_stream_did_is_what_its_changes_say(of_cdnow: Path) -> None:
    """Oracle: the panels counted in plain Python, from the file of orders and from the replay's changes."""
    report = strictly(of_cdnow / "report.json")
    lived = report["lived"]
    bought: dict[str, set[dt.date]] = {}
    for line in CDNOW.read_text().splitlines():
        _, customer, date, *_ = line.split()
        bought.setdefault(customer, set()).add(dt.date.fromisoformat(date))
    lifecycles: dict[str, list[tuple[str, str | None]]] = {}
    for change in json.loads((of_cdnow / "changes.json").read_text()):
        if change["dimension"] == "lifecycle":
            lifecycles.setdefault(change["customer_id"], []).append((change["as_of"], change["current"]))
    rows = alarms = stayed_away = hits = 0
    cut, window = dt.date(1997, 9, 30), dt.timedelta(days=90)
    for week in range(27):
        on = cut + dt.timedelta(days=7 * week)
        ends = f"{on + dt.timedelta(days=1)}T00:00:00Z"
        for customer, days in bought.items():
            if customer not in lifecycles:  # not replayed
                continue
            last = max((day for day in days if day <= on), default=dt.date.min)
            standing = [current for as_of, current in lifecycles[customer] if as_of < ends]
            if on - last >= window or not standing or standing[-1] is None:
                continue
            away, alarm = (
                not any(on < day <= on + window for day in days),
                standing[-1] in ("at_risk", "lapsed"),
            )
            rows, stayed_away = rows + 1, stayed_away + away
            alarms, hits = alarms + alarm, hits + (away and alarm)
    assert (lived["panel"]["customer_days"], lived["panel"]["stayed_away"]) == (rows, stayed_away)
    both = lived["warned"]["at_risk_or_lapsed"]
    assert both["alarms"] == alarms
    assert (both["recall"], both["precision"]) == pytest.approx((hits / stayed_away, hits / alarms), abs=1e-6)
    named = (
        f"as lived: at_risk or lapsed named {hits / stayed_away:.0%} of those who then stayed away 90 days ("
    )
    assert named in calibration_text(report)


def test_of_very_many_customers_a_part_is_replayed(tmp_path: Path) -> None:
    """As many as are looked at, of whom each lives on to the end."""
    records = cdnow()[:600]
    assert calibrate(tmp_path, write(tmp_path / "purchases.jsonl", records), *CDNOW_OPTIONS) == 0
    lived = strictly(tmp_path / "report.json")["lived"]
    everyone = {record["customer_id"] for record in records}
    assert (lived["customers"], lived["customers_in_all"]) == (FEW, len(everyone))
    assert 0 < lived["panel"]["customers"] <= FEW
    assert lived["there_and_back"]["segment"]["customer_years"] == pytest.approx(FEW * 273 / 365, rel=1e-6)


def test_the_page_needs_nothing_from_elsewhere(of_cdnow: Path) -> None:
    """One file, with its plots in it, that runs nothing."""
    page = (of_cdnow / "report.html").read_text("utf-8")
    assert page.count("<svg") >= 3
    assert "<script" not in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))


def test_the_order_of_the_lines_changes_no_byte(tmp_path: Path) -> None:
    """Neither of the model file nor of the report."""
    records, found = cdnow()[:2_000], []
    for _ in range(2):
        assert calibrate(tmp_path, write(tmp_path / "purchases.jsonl", records), *CDNOW_OPTIONS) == 0
        found.append([(tmp_path / name).read_bytes() for name in ("model.yaml", "report.json")])
        random.Random(1).shuffle(records)
    assert found[0] == found[1]


def test_capacities_become_thresholds(tmp_path: Path) -> None:
    """No more customers than there is room for, and the file keeps what its thresholds were made from."""
    some = cdnow()[:2_000]
    purchases = write(tmp_path / "purchases.jsonl", some)
    options = (*CDNOW_OPTIONS, "--tier", "strategic=20", "--tier", "named=5%")
    assert calibrate(tmp_path, purchases, *options) == 0
    rooms = {room["tier"]: room for room in strictly(tmp_path / "report.json")["tiers"]["rooms"]}
    assert rooms["strategic"]["customers"] <= 20
    assert rooms["named"]["customers"] <= 0.05 * len({line["customer_id"] for line in some})
    model = load_model(tmp_path / "model.yaml")
    assert model.tiers.capacities == {"strategic": "20", "named": "5%"}
    assert model.tiers.by == "expected_margin"
    assert model.tiers.thresholds.strategic == rooms["strategic"]["threshold"]


def test_of_very_many_customers_a_part_is_fitted_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn by their ids; capacities go on meaning all customers, and a threshold that few decide is told of."""
    purchases = write(tmp_path / "purchases.jsonl", cdnow())
    monkeypatch.setattr("streams.cli.commands.TELLS_AFTER_S", 0)
    options = (*CDNOW_OPTIONS, "--tier", "strategic=100", "--tier", "named=20%", "--customers", "500")
    assert calibrate(tmp_path, purchases, *options) == 0
    report, everyone = strictly(tmp_path / "report.json"), len({line["customer_id"] for line in cdnow()})
    assert report["history"]["customers"] == 500
    assert report["history"]["customers_in_all"] == pytest.approx(everyone, rel=0.15)
    rooms = {room["tier"]: room for room in report["tiers"]["rooms"]}
    assert (rooms["strategic"]["capacity"], rooms["strategic"]["places"]) == ("100", 100)
    assert 80 <= rooms["strategic"]["customers"] <= 105
    assert rooms["named"]["places"] == pytest.approx(0.2 * everyone, rel=0.15)
    out, err = capsys.readouterr()
    assert "500 of about 2," in out
    assert "the threshold of strategic rests on 21 of the customers who were drawn" in out
    assert "sample of about 2," in err
    assert load_model(tmp_path / "model.yaml").tiers.capacities == {"strategic": "100", "named": "20%"}


def test_tiers_go_by_value_where_the_model_to_begin_with_says_so(tmp_path: Path) -> None:
    """Else by expected margin; the report tells from which margin on."""
    purchases = write(tmp_path / "purchases.jsonl", cdnow()[:2_000])
    by_value = {**load_model().model_dump(mode="json", exclude_none=True)}
    (tmp_path / "by value.yaml").write_text(json.dumps(by_value))
    found = {}
    for name, options in (("margin", ()), ("value", ("--model", str(tmp_path / "by value.yaml")))):
        assert calibrate(tmp_path, purchases, *options) == 0
        found[name] = (
            load_model(tmp_path / "model.yaml"),
            strictly(tmp_path / "report.json")["scales"]["tiers"],
        )
    assert {name: model.tiers.by for name, (model, _) in found.items()} == {
        "margin": "expected_margin",
        "value": "value",
    }
    margins = found["margin"][1]["expected_margin_from"]
    assert margins["strategic"] > margins["named"] > margins["field"] >= 0


FIRST = dt.date(2024, 1, 1)


def five_customers() -> list[Document]:
    return [
        record(
            10 * customer + at, f"c{customer}", FIRST + dt.timedelta(days=23 * at + customer), f"{10 + at}.00"
        )
        for customer in range(5)
        for at in range(1 + 2 * customer)
    ]


def one_order_each() -> list[Document]:
    return [record(at, f"c{at}", FIRST + dt.timedelta(days=at % 200), "10.00") for at in range(300)]


def only_returns() -> list[Document]:
    return [record(at, f"c{at}", FIRST + dt.timedelta(days=at), "10.00", "refund") for at in range(100)]


def everything_returned() -> list[Document]:
    """Each order is refunded two days later."""
    orders = one_order_each()
    back = [
        {
            **order,
            "event_id": f"r{at}",
            "kind": "refund",
            "occurred_at": order["occurred_at"].replace("T12", "T13"),
        }
        for at, order in enumerate(orders)
    ]
    return orders + back


def one_whale() -> list[Document]:
    """One customer spends 10,000 times the median."""
    rng = random.Random(2)
    return [
        record(
            1_000 * customer + at,
            f"c{customer}",
            FIRST + dt.timedelta(days=rng.randrange(360)),
            "200000.00" if customer == 0 else f"{rng.randint(10, 30)}.00",
        )
        for customer in range(200)
        for at in range(rng.randint(1, 8))
    ]


def nobody_ever_stops() -> list[Document]:
    """Everyone buys each week for two years: BG/NBD finds no dropping out, and its `b` runs away."""
    rng = random.Random(3)
    return [
        record(
            1_000 * customer + week,
            f"c{customer}",
            FIRST + dt.timedelta(days=7 * week + rng.randrange(7)),
            "9.00",
        )
        for customer in range(60)
        for week in range(customer % 20, 104)
    ]


ODD = (
    five_customers,
    one_order_each,
    only_returns,
    everything_returned,
    one_whale,
    nobody_ever_stops,
)


@pytest.mark.parametrize("history", ODD, ids=lambda history: history.__name__.replace("_", " "))
def test_an_odd_history_gets_a_model_or_a_refusal_with_its_reason(
    history: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No exception, and no NaN in any file."""
    code = calibrate(tmp_path, write(tmp_path / "purchases.jsonl", history()))
    told = capsys.readouterr()
    if code == 0:
        load_model(tmp_path / "model.yaml")
        report = strictly(tmp_path / "report.json")
        assert report["lifetime_value"]["reason"]
        assert "nan" not in (tmp_path / "model.yaml").read_text().lower()
    else:
        assert code == 1
        assert told.err.startswith("ebbtide: error: no model was fitted: ")
        assert len(told.err.splitlines()) == 1
        assert not (tmp_path / "model.yaml").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--out", "a.yaml", "--report", "a.yaml"), "--out and --report name the same file, a.yaml"),
        (("--out", "a.yaml", "--html", "./x/../a.yaml"), "--out and --html name the same file"),
        (("--out", "a", "--report", "b", "--html", "b"), "--report and --html name the same file, b"),
        (("--out", "a", "--name", ""), "'--name': 1 to 128 characters are allowed, not 0"),
        (("--out", "a", "--name", "n" * 129), "'--name': 1 to 128 characters are allowed, not 129"),
        (("--out", "a", "--model-version", ""), "'--model-version': 1 to 128 characters are allowed, not 0"),
        (("--out", "a", "--model-version", "v" * 129), "'--model-version': 1 to 128 characters"),
        (("--out", "a", "--from-kafka"), "--from-kafka takes the place of --purchases"),
        (("--out", "a", "--from-redis"), "--from-redis takes the place of --purchases"),
        (("--out", "a", "--from-redis", "--from-kafka"), "--from-kafka or --from-redis, not both"),
        (("--out", "a", "--window-days", "0"), "'--window-days': 0 is not in the range 1<=x<=3650"),
        (("--out", "a", "--at-risk-share", "2"), "a share is at most 1, or 100%"),
        (("--out", "a", "--lapsed-share", "5%"), "--lapsed-share needs an --at-risk-share"),
        (("--out", "a", "--at-risk-share", "5%", "--lapsed-share", "6%"), "that is not below it"),
    ],
)
def test_wrong_use_is_told_before_anything_is_read(
    options: tuple[str, ...],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 2, in one line, although neither the settings nor the records could be read; nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBBTIDE_NO_SUCH_SETTING", "1")
    Path("purchases.jsonl.gz").write_bytes(b"not compressed")
    assert main(["calibrate", "--purchases", "purchases.jsonl.gz", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["purchases.jsonl.gz"]


def test_a_name_and_a_version_may_be_as_long_as_a_model_file_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """128 characters; only then is there seen to be nothing to fit."""
    purchases = write(tmp_path / "purchases.jsonl", [])
    assert calibrate(tmp_path, purchases, "--name", "n" * 128, "--model-version", "v" * 128) == 1
    assert "there is no order" in capsys.readouterr().err
    longest = {**load_model().model_dump(), "name": "n" * 128, "version": "v" * 128}
    assert Model.model_validate(longest).name == "n" * 128


def test_a_holdout_that_leaves_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With how long the history is."""
    purchases = write(tmp_path / "purchases.jsonl", five_customers())
    assert calibrate(tmp_path, purchases, "--holdout-days", "700") == 2
    assert "--holdout-days 700 leaves nothing to fit: the history has" in capsys.readouterr().err


def test_files_without_an_order_are_refused_with_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records that could not be read are counted, with the reason and an example; the report says it too."""
    purchases = write(tmp_path / "purchases.jsonl", [{"event_id": "e1"}, {"event_id": "e2"}])
    assert calibrate(tmp_path, purchases) == 1
    assert capsys.readouterr().err == (
        "ebbtide: error: no model was fitted: there is no order to fit anything to; 2 of 2 records were refused: "
        f"2 Malformed ({purchases}:1: customer_id: Field required)\n"
    )
    report = strictly(tmp_path / "report.json")
    assert report["refused"] == (
        "there is no order to fit anything to; 2 of 2 records were refused: 2 Malformed"
    )
    assert report["warnings"]
    assert report["data_quality"]["records"]["outcomes"]["purchases"] == {"dead_letter": 2}
    assert not (tmp_path / "model.yaml").exists()


def test_the_true_cause_is_named_where_what_is_left_is_too_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not that all orders are of one day, but that the others have a currency without a rate."""
    records = [{**line, "currency": "USD" if at < 3 else "EUR"} for at, line in enumerate(five_customers())]
    assert (
        calibrate(tmp_path, write(tmp_path / "p.jsonl", records[:3] + records[4:]), "--holdout-days", "1")
        != 0
    )
    error = capsys.readouterr().err
    count = len(records) - 4
    assert (
        f"{count} of {count + 3} records were refused: {count} UnknownCurrency ({tmp_path / 'p.jsonl'}:4: "
        in error
    )


def test_who_denies_profiling_is_named_where_nobody_else_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is fitted to them, and that is why there is no model."""
    denials = [
        {
            "event_id": f"d{customer}",
            "customer_id": customer,
            "occurred_at": f"{FIRST}T00:00:00Z",
            "kind": "consent",
            "purpose": "profiling",
            "granted": False,
        }
        for customer in {line["customer_id"] for line in five_customers()}
    ]
    consents = write(tmp_path / "consents.jsonl", denials)
    purchases = write(tmp_path / "purchases.jsonl", five_customers())
    assert calibrate(tmp_path, purchases, "--consents", str(consents)) == 1
    assert "no customer to fit anything to: 5 do not allow profiling" in capsys.readouterr().err


def test_one_record_of_1970_is_no_reason_against_all_others(tmp_path: Path) -> None:
    """The model is that of the others, and none of them is from the future."""
    records = one_whale()
    early = record(1, "early", dt.date(1970, 1, 1), "10.00")
    assert calibrate(tmp_path, write(tmp_path / "purchases.jsonl", [early, *records])) == 0
    assert strictly(tmp_path / "report.json")["data_quality"]["records"]["dead_letters"] == 0


def test_no_model_is_written_where_too_much_was_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is; a share that is not exceeded lets the model through, and says what is missing."""
    records = [{**line, "currency": "EUR" if at % 4 == 0 else "USD"} for at, line in enumerate(one_whale())]
    purchases = write(tmp_path / "purchases.jsonl", records)
    assert calibrate(tmp_path, purchases, "--fail-over-refused", "20%") == 1
    assert "were refused, more than --fail-over-refused 0.2 allows" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"purchases.jsonl", "report.json"}
    assert calibrate(tmp_path, purchases, "--fail-over-refused", "30%") == 0
    refused = sum(line["currency"] == "EUR" for line in records)
    told = capsys.readouterr().err
    assert told.startswith(
        f"{refused} of {len(records):,} records were refused:\n  {refused} UnknownCurrency, such as "
    )
    assert f"such as {purchases}:1: currency: the model has no rate for EUR" in told


def test_records_later_than_until_are_named_where_none_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A date before everything is a likely slip."""
    assert calibrate(tmp_path, write(tmp_path / "p.jsonl", one_order_each()), "--until", "2020-01-01") == 1
    assert "300 records are later than --until" in capsys.readouterr().err


def test_warnings_of_all_sections_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the records are in a currency without a rate: nobody should have to open the report for that."""
    records = [{**line, "currency": "EUR" if at % 2 else "USD"} for at, line in enumerate(one_whale())]
    assert calibrate(tmp_path, write(tmp_path / "purchases.jsonl", records)) == 0
    assert "warning: data quality: " in capsys.readouterr().out


def test_a_model_calibrated_again_keeps_to_its_capacities(tmp_path: Path) -> None:
    """On twice the customers the same room gives other thresholds; a new capacity leaves the other one as it was."""
    few, many = cdnow()[:1_000], cdnow()[:2_000]
    assert (
        calibrate(
            tmp_path, write(tmp_path / "few.jsonl", few), "--tier", "strategic=20", "--tier", "named=40"
        )
        == 0
    )
    before = (tmp_path / "model.yaml").rename(tmp_path / "before.yaml")
    options = ("--model", str(before), "--tier", "named=10%")
    assert calibrate(tmp_path, write(tmp_path / "many.jsonl", many), *options) == 0
    old, new = load_model(before), load_model(tmp_path / "model.yaml")
    assert new.tiers.capacities == {"strategic": "20", "named": "10%"}
    assert new.tiers.thresholds.strategic != old.tiers.thresholds.strategic
    rooms = {room["tier"]: room for room in strictly(tmp_path / "report.json")["tiers"]["rooms"]}
    assert 0 < rooms["strategic"]["customers"] <= 20


def test_fitted_engagement_weights_are_not_judged_by_what_they_were_fitted_to(tmp_path: Path) -> None:
    """What is held against later purchases, and drift, is the same with them and without; the model is not."""
    rng = random.Random(4)
    records = one_whale()
    purchases = write(tmp_path / "purchases.jsonl", records)
    touches = [
        {
            "event_id": f"t{customer}-{number}",
            "customer_id": f"c{customer}",
            "occurred_at": f"{FIRST + dt.timedelta(days=rng.randrange(360))}T08:00:00Z",
            "kind": kind,
            "channel": "email",
        }
        for customer in range(200)
        for kind in ("opened", "clicked")
        for number in range(rng.randint(0, 12))
    ]
    engagements = ("--engagements", str(write(tmp_path / "engagements.jsonl", touches)))
    found = {}
    for name, options in (("plain", ()), ("fitted", ("--fit-engagement-weights",))):
        folder = tmp_path / name
        folder.mkdir()
        assert calibrate(folder, purchases, *engagements, *options) == 0
        found[name] = strictly(folder / "report.json"), load_model(folder / "model.yaml")
    (plain, plain_model), (fitted, fitted_model) = found["plain"], found["fitted"]
    assert fitted["engagement_weights"]["used"] == "fitted"
    assert plain["engagement_weights"]["used"] == "default"
    assert fitted_model.scored_kinds != plain_model.scored_kinds
    for section in ("validation", "potential", "drift"):
        assert fitted[section] == plain[section], section
