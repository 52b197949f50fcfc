"""What a kernel shows beyond IPython's own: tables as data, figures as charts, and variables for one cell.

Evaluated in the kernel as the module `_skep_display`, from text. A value that cannot be described is shown as IPython does anyway.
"""

import os


def install(shell):
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class Data(BaseFormatter):
        format_type = Unicode("e2b/data")
        print_method = ObjectName("_repr_e2b_data_")
        _return_type = (dict, str)

        def __call__(self, value):
            return quietly(data, value) if named(value, "pandas", "DataFrame") else super().__call__(value)

    class Chart(BaseFormatter):
        format_type = Unicode("e2b/chart")
        print_method = ObjectName("_repr_e2b_chart_")
        _return_type = (dict, str)

        def __call__(self, value):
            return quietly(chart, value) if named(value, "matplotlib", "Figure") else super().__call__(value)

    formatters = shell.display_formatter.formatters
    for formatter in (Data(parent=shell.display_formatter), Chart(parent=shell.display_formatter)):
        formatters[formatter.format_type] = formatter
    # JSON of dicts and lists, beside their text.
    formatters["application/json"].for_type(dict, plain)
    formatters["application/json"].for_type(list, plain)
    shell.display_formatter.active_types = list(formatters)


def named(value, package, name):
    """Without importing what the sandbox may not have."""
    return any(base.__name__ == name and base.__module__.split(".")[0] == package for base in type(value).__mro__)


def quietly(describe, value):
    try:
        return describe(value)
    except Exception:
        return None


def plain(value):
    import json

    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return value


def scalar(value):
    """A number, a text or nothing; dates as ISO 8601."""
    if value != value:
        # Not a number, and not a time.
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def data(frame):
    return {str(name): [scalar(value) for value in frame[name]] for name in frame.columns}


# --- charts: what a figure shows, as the SDK's chart types have it -----------------------------------------------------------


def chart(figure):
    charts = [described for described in map(axes, figure.get_axes()) if described is not None]
    if not charts:
        return None
    if len(charts) == 1:
        return charts[0]
    title = figure._suptitle.get_text() if getattr(figure, "_suptitle", None) is not None else ""
    return {"type": "superchart", "title": title, "elements": charts}


def axes(on):
    for kind in (pie, box_and_whisker, bar, scatter, line):
        found = kind(on)
        if found is not None:
            return found
    return {"type": "unknown", "title": on.get_title(), "elements": []}


def unit(label):
    """`Speed (km/h)` has the unit `km/h`."""
    return label[label.rindex("(") + 1:-1] if label.endswith(")") and "(" in label else None


def flat(on, kind, elements):
    x, y = on.get_xlabel(), on.get_ylabel()
    return {"type": kind, "title": on.get_title(), "x_label": x, "y_label": y, "x_unit": unit(x), "y_unit": unit(y), "elements": elements}


def scale(axis):
    import matplotlib.category
    import matplotlib.dates

    converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
    if isinstance(converter, matplotlib.category.StrCategoryConverter):
        return "categorical"
    if isinstance(axis.get_major_locator(), matplotlib.dates.DateLocator):
        return "datetime"
    return axis.get_scale()


def points(on, kind, elements):
    ticks = {}
    for name, axis in (("x", on.xaxis), ("y", on.yaxis)):
        ticks[f"{name}_ticks"] = [scalar(tick) for tick in axis.get_ticklocs()]
        ticks[f"{name}_tick_labels"] = [label.get_text() for label in axis.get_ticklabels()]
        ticks[f"{name}_scale"] = scale(axis)
    return {**flat(on, kind, elements), **ticks}


def values(axis, given):
    """Where an axis shows dates, so do its points."""
    import matplotlib.dates

    if scale(axis) != "datetime":
        return [scalar(value) for value in given]
    return [value if hasattr(value, "isoformat") else matplotlib.dates.num2date(value) for value in given]


def label_of(artist, otherwise):
    label = str(artist.get_label())
    return otherwise if label.startswith("_") else label


def line(on):
    elements = []
    for n, drawn in enumerate(on.get_lines()):
        xs, ys = values(on.xaxis, drawn.get_xdata()), values(on.yaxis, drawn.get_ydata())
        elements.append({"label": label_of(drawn, f"line {n}"), "points": [[scalar(x), scalar(y)] for x, y in zip(xs, ys)]})
    return points(on, "line", elements) if elements else None


def scatter(on):
    from matplotlib.collections import PathCollection

    elements = []
    for n, drawn in enumerate(on.collections):
        if isinstance(drawn, PathCollection):
            places = list(drawn.get_offsets())
            xs, ys = values(on.xaxis, [place[0] for place in places]), values(on.yaxis, [place[1] for place in places])
            elements.append({"label": label_of(drawn, f"points {n}"), "points": [[scalar(x), scalar(y)] for x, y in zip(xs, ys)]})
    return points(on, "scatter", elements) if elements else None


def bar(on):
    from matplotlib.container import BarContainer

    elements = []
    for n, drawn in enumerate(found for found in on.containers if isinstance(found, BarContainer)):
        across = getattr(drawn, "orientation", "vertical") == "horizontal"
        axis = on.yaxis if across else on.xaxis
        names = {round(float(place), 6): text.get_text() for place, text in zip(axis.get_ticklocs(), axis.get_ticklabels())}
        for patch in drawn.patches:
            start, width, value = (patch.get_y(), patch.get_height(), patch.get_width()) if across else (patch.get_x(), patch.get_width(), patch.get_height())
            centre = round(float(start + width / 2), 6)
            elements.append({"label": names.get(centre) or str(centre), "group": label_of(drawn, f"group {n}"), "value": scalar(value)})
    return flat(on, "bar", elements) if elements else None


def pie(on):
    from matplotlib.patches import Wedge

    wedges = [patch for patch in on.patches if isinstance(patch, Wedge)]
    if not wedges:
        return None
    texts = [text.get_text() for text in on.texts if text.get_text()]
    elements = []
    for n, wedge in enumerate(wedges):
        label = label_of(wedge, texts[n] if n < len(texts) else "")
        elements.append({"label": label, "angle": abs(float(wedge.theta2 - wedge.theta1)), "radius": float(wedge.r)})
    return {"type": "pie", "title": on.get_title(), "elements": elements}


def box_and_whisker(on):
    """Boxes as `boxplot` draws them, upright: a closed line of five points, two whiskers, caps, a median, and loose points outside."""
    lines = [[[float(x), float(y)] for x, y in zip(drawn.get_xdata(orig=False), drawn.get_ydata(orig=False))] for drawn in on.get_lines() if drawn.get_marker() in ("", "None", None)]
    boxes = [found for found in lines if len(found) == 5 and found[0] == found[4]]
    if not boxes:
        return None
    names = {round(float(place), 6): text.get_text() for place, text in zip(on.xaxis.get_ticklocs(), on.xaxis.get_ticklabels())}
    elements = []
    for box in boxes:
        xs, ys = [x for x, _ in box], [y for _, y in box]
        left, right, low, high = min(xs), max(xs), min(ys), max(ys)
        within = [found for found in lines if len(found) == 2 and left <= found[0][0] <= right and found != box]
        ends = [y for found in within for _, y in found]
        medians = [found[0][1] for found in within if found[0][1] == found[1][1] and found[0][0] == left and found[1][0] == right]
        loose = [float(y) for drawn in on.get_lines() if drawn.get_linestyle() == "None" for x, y in zip(drawn.get_xdata(orig=False), drawn.get_ydata(orig=False)) if left <= x <= right]
        name = names.get(round((left + right) / 2, 6), "")
        elements.append({
            "label": name, "min": min(ends, default=low), "first_quartile": low, "median": medians[0] if medians else None,
            "third_quartile": high, "max": max(ends, default=high), "outliers": loose,
        })
    return flat(on, "box_and_whisker", elements)


# --- variables of one cell ---------------------------------------------------------------------------------------------------

before = {}


def enter(variables):
    for name, value in variables.items():
        before[name] = os.environ.get(name)
        os.environ[name] = value


def leave():
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    before.clear()
