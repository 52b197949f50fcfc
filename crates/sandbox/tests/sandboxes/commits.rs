//! What a fork did comes back, but over nobody's own change.

use std::collections::BTreeMap;

use skep_sandbox::{Command, Input, LifeError, Why};

use crate::{
    boxed::{BOTH, Bench, most_powerful, run},
    snapshots::{create, line, one_fork, open},
};

#[tokio::test]
async fn a_fork_s_changes_come_back_and_conflicts_are_left_alone() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    for profile in BOTH {
        let parent = create(&bench, &node, profile).await;
        line(
            &parent,
            "echo 1 > theirs; echo 1 > ours; echo 1 > both; echo 1 > equal; echo 1 > gone; echo 1 > lost; mkdir old kept; echo 1 > old/f; echo 1 > kept/f; \
             ln -s a link; echo 1 > becomes; mkdir ro; echo 1 > shut",
        )
        .await;
        let fork = one_fork(&parent).await;
        line(
            &fork,
            "echo 2 > theirs; touch -d 2001-02-03 theirs; chmod 750 theirs; echo 2 > both; echo 3 > equal; rm gone; echo 2 > lost; rm -r old; rm -r kept; \
             ln -sfn b link; rm becomes; mkdir becomes; echo 2 > becomes/f; mkdir -p new/deep; echo 2 > new/deep/f; echo 2 > added; echo 2 > blocked; \
             mkfifo pipe; printf x > \"$(printf '\\377')\"; echo 2 > ro/f; chmod 500 ro; mkdir way; echo 2 > way/f",
        )
        .await;
        line(
            &parent,
            "echo 4 > ours; echo 4 > both; echo 3 > equal; rm lost; echo 4 > kept/f; mkdir blocked; echo 4 > way; chmod 600 shut",
        )
        .await;
        let merged = fork.commit_back().await.unwrap();
        let conflicts: BTreeMap<String, Why> =
            merged.conflicts.iter().map(|c| (c.path["/home/user/".len()..].to_owned(), c.why.clone())).collect();
        let expected = [
            ("blocked", Why::Added),
            ("both", Why::Changed),
            ("kept", Why::Removed),
            ("lost", Why::Removed),
            ("pipe", Why::Kind),
            ("way", Why::Added),
            ("way/f", Why::Ancestor),
            ("\u{fffd}", Why::Name),
        ];
        assert_eq!(conflicts, expected.into_iter().map(|(path, why)| (path.to_owned(), why)).collect());
        assert_eq!(merged.same, ["/home/user/equal"]);
        let shown = line(
            &parent,
            "cat theirs ours both equal kept/f becomes/f new/deep/f added ro/f way; readlink link; stat -c '%a %Y' theirs; stat -c '%a %U' ro; \
             ls -d gone lost old pipe 2>/dev/null | wc -l; stat -c %a shut",
        )
        .await;
        assert_eq!(shown, "2\n4\n4\n3\n4\n2\n2\n2\n2\n4\nb\n750 981158400\n500 user\n0\n600\n", "{merged:?}");
        let again = fork.commit_back().await.unwrap();
        assert!(again.applied.is_empty() && again.conflicts.len() == merged.conflicts.len(), "{again:?}");
        if profile.allows_root() {
            let user = most_powerful(profile);
            let made = "echo tool > /usr/local/tool; chown 7:8 /usr/local/tool; chmod 755 /usr/local/tool; echo hosts >> /etc/hosts";
            run(&fork.sandbox().await.unwrap(), Command::shell(made).user(user)).await;
            fork.commit_back().await.unwrap();
            assert_eq!(line(&parent, "stat -c '%u %g %a' /usr/local/tool; tail -1 /etc/hosts").await, "7 8 755\nhosts\n");
        }
        assert!(matches!(parent.commit_back().await, Err(LifeError::NoFork)));
        parent.happen(Input::Pause).await.unwrap();
        assert!(matches!(fork.commit_back().await, Err(LifeError::Refused(_))));
        parent.happen(Input::Remove).await.unwrap();
        assert!(matches!(fork.commit_back().await, Err(LifeError::NoFork)));
        fork.happen(Input::Remove).await.unwrap();
    }
}

/// A path that is a folder in the fork and a link to elsewhere in the sandbox must not lead the way out of that folder.
#[tokio::test]
async fn a_link_in_the_parent_is_not_followed_by_what_comes_back() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    for profile in BOTH {
        let parent = create(&bench, &node, profile).await;
        line(&parent, "mkdir d elsewhere; echo canary > elsewhere/f").await;
        let fork = one_fork(&parent).await;
        line(&fork, "echo evil > d/f").await;
        line(&parent, "rmdir d; ln -s elsewhere d").await;
        let merged = fork.commit_back().await.unwrap();
        assert_eq!(merged.conflicts.iter().map(|c| c.why.clone()).collect::<Vec<_>>(), [Why::Ancestor], "{merged:?}");
        assert_eq!(line(&parent, "cat elsewhere/f").await, "canary\n");
        for boxed in [fork, parent] {
            boxed.happen(Input::Remove).await.unwrap();
        }
    }
}
