//! A node that does what lines on its standard input say, until it is killed: `--node FOLDER` of `skep-boxed`, for tests of what a kill leaves.
//!
//! It says `opened <adopted> <stopped> <leaks>`, and to each line `ok <text>` or `failed <why>`. It is not: a node that anybody should run.

use std::io::{BufRead, Write};

use skep_sandbox::{Boxed, Input, Sandboxes};

use super::forks::{Failed, POLICY, open, shell, spec};

/// Until its input ends.
pub async fn serve(arguments: &[String]) -> Result<(), Failed> {
    let [folder] = arguments else { return Err("--node FOLDER".into()) };
    let (node, opened) = open(folder.into()).await?;
    say(&format!("opened {} {} {}", opened.adopted, opened.stopped, opened.leaks))?;
    for line in std::io::stdin().lock().lines() {
        match answer(&node, &line?).await {
            Ok(text) => say(&format!("ok {}", text.trim_end().replace('\n', "|")))?,
            Err(error) => say(&format!("failed {error}"))?,
        }
    }
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

async fn answer(node: &Sandboxes, line: &str) -> Result<String, Failed> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (about, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let boxed = || -> Result<Boxed, Failed> { Ok(node.get(&about.parse()?).ok_or("there is no such sandbox")?) };
    let happen = async |input| -> Result<String, Failed> { Ok(boxed()?.happen(input).await.map(|()| String::new())?) };
    match what {
        "create" => Ok(node.create(spec()?, node.host_image()?, POLICY).await?.id().to_string()),
        "sh" => shell(&boxed()?, text).await,
        "pause" => happen(Input::Pause).await,
        "resume" => happen(Input::Resume).await,
        "stop" => happen(Input::Stop).await,
        "remove" => happen(Input::Remove).await,
        "snapshot" => Ok(boxed()?.snapshot(None).await?.id.to_string()),
        "fork" => Ok(boxed()?.fork(1, true).await.remove(0)?.id().to_string()),
        "restore" => Ok(node.restore(&about.parse()?, spec()?, POLICY).await?.id().to_string()),
        "forget" => Ok(node.remove_snapshot(&about.parse()?).await?.to_string()),
        "list" => Ok(node.list().iter().map(|boxed| boxed.id().to_string()).collect::<Vec<_>>().join(" ")),
        "snapshots" => Ok(node.snapshots().iter().map(|snapshot| snapshot.id.to_string()).collect::<Vec<_>>().join(" ")),
        other => Err(format!("what is {other:?}?").into()),
    }
}
