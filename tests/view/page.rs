//! The page in Chromium. Where there is none it says so; `KERAUNOS_CHROMIUM` names one.

use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use serde_json::json;

use crate::browser::{self, Browser};
use crate::{BALLS, Result, Viewing, text};

const SIZE: [u32; 2] = [1000, 640];
/// Pixels of a side of the squares whose means are compared: letters may be drawn otherwise, but not be elsewhere.
const SQUARE: u32 = 8;
/// How far two means may differ, of 255, and the share of squares in which they may differ more: fonts and drivers
/// are others elsewhere. A missing map changes more than three times as many, which the test sees.
const FAR: u32 = 24;
const SHARE: f64 = 0.01;

/// The browser, or a word on the terminal that there is none, even where tests are not heard.
fn chromium(test: &str) -> Option<PathBuf> {
    let found = browser::found();
    if found.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: no Chromium on this machine; KERAUNOS_CHROMIUM names one"
        );
    }
    found
}

/// The share of squares whose means differ by more than [`FAR`].
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "sizes of the pictures");
    let (columns, rows) = (a.width() / SQUARE, a.height() / SQUARE);
    let mean = |picture: &RgbImage, column: u32, row: u32, channel: usize| {
        let pixels = (0..SQUARE * SQUARE)
            .map(|at| (column * SQUARE + at % SQUARE, row * SQUARE + at / SQUARE));
        let sum: u32 = pixels
            .map(|(x, y)| u32::from(picture.get_pixel(x, y).0[channel]))
            .sum();
        sum / (SQUARE * SQUARE)
    };
    let squares = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
    let far = squares.filter(|&(column, row)| {
        (0..3).any(|channel| {
            mean(a, column, row, channel).abs_diff(mean(b, column, row, channel)) > FAR
        })
    });
    far.count() as f64 / f64::from(columns * rows)
}

/// Fails where the picture is not the committed one. KERAUNOS_VIEW_GOLDENS names a folder for those of today;
/// scripts/view_goldens makes the committed ones so.
#[track_caller]
fn compare(name: &str, picture: &RgbImage) -> RgbImage {
    if let Some(folder) = std::env::var_os("KERAUNOS_VIEW_GOLDENS") {
        let file = std::fs::File::create(Path::new(&folder).join(name)).expect("a file");
        let (small, filter) = (CompressionType::Best, FilterType::Adaptive);
        let encoder = PngEncoder::new_with_quality(file, small, filter);
        picture.write_with_encoder(encoder).expect("it is written");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name);
    let golden = image::open(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .to_rgb8();
    let share = difference(picture, &golden);
    assert!(
        share <= SHARE,
        "{name}: {:.1} % of the squares differ",
        100.0 * share
    );
    golden
}

/// What the page says of the place under the crosshair.
fn place(browser: &mut Browser) -> String {
    let said = browser.eval("document.getElementById('place').textContent");
    said.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_page_shows_scan_map_and_structures_and_fetches_nothing_from_elsewhere() {
    let Some(program) = chromium("the page in a browser") else {
        return;
    };
    let result = Result::new();
    let viewing = Viewing::start(&[text(&result.out())]);
    let mut browser = Browser::open(&program, SIZE, "light");
    assert_eq!(browser.visit(&viewing.url), "ready");

    // A structure that is chosen is under the crosshair: its centre, the map's grid and labels are the browser's too.
    for (n, (_, name, ..)) in BALLS.iter().enumerate() {
        browser.eval(&format!(
            "document.querySelectorAll('#structures button')[{n}].click()"
        ));
        let place = place(&mut browser);
        assert!(
            place.ends_with(&format!("intensity 150  ·  {name}")),
            "{place}"
        );
    }
    assert!(place(&mut browser).starts_with("0.0, -12.0, -24.0 mm"));
    // Words from outside are text.
    let quote = browser.eval("document.querySelector('#detail blockquote').firstChild.textContent");
    assert_eq!(quote, json!("<b>The ball</b> & its \"rim\""));
    assert_eq!(
        browser.eval("document.querySelectorAll('blockquote b').length"),
        json!(0)
    );

    // All of it by keys: focus on the list, the first row, and through the volume.
    browser.eval("document.getElementById('filter').focus()");
    browser.press("ArrowDown");
    assert_eq!(
        browser.eval("document.activeElement.getAttribute('aria-pressed')"),
        json!("true")
    );
    assert!(place(&mut browser).ends_with("left ball"));
    compare("view_light.png", &browser.picture());
    let before = place(&mut browser);
    browser.eval("document.getElementById('canvas').focus()");
    browser.press("PageUp");
    assert_ne!(place(&mut browser), before);
    browser.press("PageDown");
    assert_eq!(place(&mut browser), before);
    browser.press("2");
    assert_eq!(
        browser.eval("document.querySelector('[name=plane]:checked').value"),
        json!("axial")
    );
    browser.press("1");
    browser.press("o");
    browser.press("x");
    assert_eq!(
        browser.eval("document.getElementById('outline').checked"),
        json!(true)
    );
    browser.press("o");
    browser.press("x");
    browser.eval("document.getElementById('filter').value = 'LOW'; filter()");
    assert_eq!(
        browser.eval("document.querySelectorAll('#structures li:not([hidden])').length"),
        json!(1)
    );
    browser.eval("document.getElementById('filter').value = ''; filter()");
    browser.eval("document.querySelector('#structures button').focus()");

    // The comparison sees it if the map is gone.
    let golden = compare("view_light.png", &browser.picture());
    browser.eval("document.getElementById('opacity').value = 0; setOpacity()");
    let bare = difference(&browser.picture(), &golden);
    assert!(bare > 3.0 * SHARE, "{bare}");

    let events = std::mem::take(&mut browser.events);
    let of = |method: &str| {
        events
            .iter()
            .filter(|e| e["method"] == json!(method))
            .collect::<Vec<_>>()
    };
    for event in of("Network.requestWillBeSent") {
        let url = event["params"]["request"]["url"]
            .as_str()
            .unwrap_or_default();
        let own =
            url.starts_with(&viewing.url) || url.starts_with("data:") || url.starts_with("blob:");
        assert!(own, "{url:.100}");
    }
    assert!(of("Network.requestWillBeSent").len() >= 7);
    // Breaches of the policy are in the log.
    assert_eq!(of("Log.entryAdded"), Vec::<&serde_json::Value>::new());
    assert_eq!(
        of("Runtime.exceptionThrown"),
        Vec::<&serde_json::Value>::new()
    );
}

#[test]
fn the_page_is_dark_where_the_system_is() {
    let Some(program) = chromium("the dark page in a browser") else {
        return;
    };
    let result = Result::new();
    let viewing = Viewing::start(&[text(&result.out())]);
    let mut browser = Browser::open(&program, SIZE, "dark");
    assert_eq!(browser.visit(&viewing.url), "ready");
    browser.press("o");
    compare("view_dark.png", &browser.picture());
}

#[test]
fn what_cannot_be_shown_is_said_on_the_page() {
    let Some(program) = chromium("a page without its scan") else {
        return;
    };
    let result = Result::new();
    let viewing = Viewing::start(&[text(&result.out())]);
    std::fs::remove_file(&result.scan).expect("it goes");
    let mut browser = Browser::open(&program, SIZE, "light");
    assert_eq!(browser.visit(&viewing.url), "failed");
    let said = browser.eval("document.getElementById('problem').textContent");
    let said = said.as_str().unwrap_or_default();
    assert!(said.starts_with("This result cannot be shown: "), "{said}");
}
