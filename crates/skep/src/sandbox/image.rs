//! `skep sandbox image`: what sandboxes begin with.

use std::{
    fs,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use skep_api::{DebianImage, ErrorCode, Image, ImageCredentials, ImageList, ImageProgress, NewImage};

use super::{plain, said};
use crate::{client::Client, failure::Failure, output};

#[derive(Subcommand)]
pub enum Command {
    /// All images; each name is a template: `skep sandbox create NAME`.
    #[command(after_help = "Example:\n  skep sandbox image ls")]
    Ls,
    /// Make an image: of a registry, of Debian's packages, or of a file. One of this name is replaced once the new one is whole.
    #[command(after_help = "Examples:
  skep sandbox image add node docker.io/library/node:22-slim
  skep sandbox image add tools ghcr.io/me/tools:1 --user me --password-file token
  skep sandbox image add trixie --debian trixie --package git --package python3
  docker save my/image | gzip > image.tar.gz; skep sandbox image add mine --file image.tar.gz
  skep sandbox image add base docker.io/library/debian:12      what sandboxes of no template begin with")]
    Add(Add),
    /// Remove images; sandboxes that began with them go on.
    #[command(after_help = "Example:\n  skep sandbox image rm node")]
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

#[derive(Args)]
pub struct Add {
    /// What it is called here: a-z, 0-9, -, _ and .
    name: String,
    /// The image, as its registry names it.
    #[arg(required_unless_present_any = ["debian", "file"], conflicts_with_all = ["debian", "file"])]
    reference: Option<String>,
    /// Who asks the registry.
    #[arg(long, value_name = "NAME", requires_all = ["reference", "password_file"])]
    user: Option<String>,
    /// A file with the password or token for the registry.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// A suite of Debian or a relative of it; needs mmdebstrap or debootstrap on the node's host.
    #[arg(long, value_name = "SUITE", conflicts_with = "file")]
    debian: Option<String>,
    /// Where its packages are.
    #[arg(long, value_name = "URL", requires = "debian")]
    mirror: Option<String>,
    /// A further package; may be given several times.
    #[arg(long = "package", value_name = "NAME", requires = "debian")]
    packages: Vec<String>,
    /// A file that `docker save` wrote, or an OCI layout as a tar, packed or not.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub fn run(client: &Client, command: &Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Ls => ls(client, json),
        Command::Add(add) => add.run(client, json),
        Command::Rm { images } => images.iter().try_for_each(|image| client.delete(&path(image)?)),
    }
}

/// A name goes into a path of the API.
fn path(name: &str) -> Result<String, Failure> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 128 || !name.bytes().all(fine) {
        return Err(Failure::new(ErrorCode::Invalid, format!("{name:.60?} is no name of an image"), "It has letters, digits, -, _ and ."));
    }
    Ok(format!("/v1/images/{name}"))
}

fn ls(client: &Client, json: bool) -> Result<(), Failure> {
    let list: ImageList = client.get("/v1/images")?;
    if json {
        output::json(&list);
        return Ok(());
    }
    let row = |one: &Image| [one.name.clone(), plain(&one.from), one.layers.to_string(), output::ago(one.made_at)];
    output::table(["IMAGE", "FROM", "LAYERS", "MADE"], &list.images.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

impl Add {
    fn run(&self, client: &Client, json: bool) -> Result<(), Failure> {
        let path = path(&self.name)?;
        let unreadable = |file: &PathBuf| {
            let file = file.display().to_string();
            move |error: io::Error| Failure::of(ErrorCode::Invalid, &error, format!("Look at {file}."))
        };
        let answer = match &self.file {
            Some(file) => client.put_open(&format!("{path}/archive"), fs::File::open(file).map_err(unreadable(file))?)?,
            None => {
                let password = |file: &PathBuf| Ok::<_, Failure>(fs::read_to_string(file).map_err(unreadable(file))?.trim_end().to_owned());
                let credentials = match (&self.user, &self.password_file) {
                    (Some(user), Some(file)) => Some(ImageCredentials { user: user.clone(), password: password(file)? }),
                    _ => None,
                };
                let debian = self.debian.as_ref().map(|suite| DebianImage {
                    suite: suite.clone(),
                    mirror: self.mirror.clone(),
                    packages: self.packages.clone(),
                });
                client.post_open(&path, &NewImage { registry: self.reference.clone(), credentials, debian })?
            }
        };
        follow(BufReader::new(answer.into_body().into_reader()), json)
    }
}

/// Tells what happens on the standard error, and the image on the standard output.
fn follow(answer: impl BufRead, json: bool) -> Result<(), Failure> {
    let broken = |error: &dyn std::error::Error| {
        Failure::of(ErrorCode::Unavailable, error, "The node stopped. An image that was begun is made anew.")
    };
    for line in answer.lines() {
        let line = line.map_err(|error| broken(&error))?;
        match serde_json::from_str(&line).map_err(|error| broken(&error))? {
            ImageProgress::Said { level, text, .. } => {
                let quiet = level == "debug" && !io::stderr().is_terminal();
                if !quiet {
                    // A reader that has gone is no error.
                    let _ = writeln!(io::stderr(), "{}", plain(&text));
                }
            }
            ImageProgress::Made(image) => return said(&image, &image.name, json),
            ImageProgress::Failed(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        ErrorCode::Unavailable,
        "the connection broke off before the image was made",
        "The work goes on if the node does: `skep sandbox image ls`.",
    ))
}
