//! The host's accounts, as its own files have them.
//!
//! Not through the C library: in a static binary `getpwnam` loads the host's name-service modules, which were built for
//! another copy of the library, and has been seen to crash. So accounts of LDAP or systemd's are not found by name here;
//! a number always is.
use std::fs;
use std::io;
use std::path::Path;

/// A line of `/etc/passwd` (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Its name; empty where only a number is known.
    pub(super) name: String,
    /// Its number.
    pub(super) uid: u32,
    /// Its first group.
    pub(super) gid: u32,
}

/// The user of that name or number. A host without a list has none.
pub(super) fn user(named: &str) -> io::Result<Option<User>> {
    Ok(find_user(&list(Path::new("/etc/passwd"))?, named))
}

/// All groups of a user, the first one first.
pub(super) fn groups(user: &User) -> io::Result<Vec<u32>> {
    Ok(find_groups(&list(Path::new("/etc/group"))?, user))
}

fn list(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn find_user(passwd: &str, named: &str) -> Option<User> {
    let number = named.parse::<u32>().ok();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_it = number.map_or(name == named, |n| n == uid);
        is_it.then(|| User {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

fn find_groups(group: &str, user: &User) -> Vec<u32> {
    let mut found = vec![user.gid];
    for line in group.lines() {
        let mut fields = line.split(':');
        let Some(gid) = fields.nth(2).and_then(|g| g.parse().ok()) else {
            continue;
        };
        let member = |m: &str| !user.name.is_empty() && m == user.name;
        if fields.next().is_some_and(|m| m.split(',').any(member)) && !found.contains(&gid) {
            found.push(gid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# no account\nbad:x:many:0::/:/bin/sh\n\
                          check:x:997:995::/:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:syslog,check\ncheck:x:995:\nssl:x:110:check\nchecks:x:111:checker\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_its_groups() {
        let check = find_user(PASSWD, "check").unwrap();
        assert_eq!((check.uid, check.gid), (997, 995));
        assert_eq!(find_user(PASSWD, "997"), Some(check.clone()));
        assert_eq!(find_groups(GROUP, &check), [995, 4, 110]);
    }

    #[test]
    fn what_is_no_account_is_none() {
        for name in ["bad", "# no account", "che", "1", ""] {
            assert_eq!(find_user(PASSWD, name), None, "{name}");
        }
        let nameless = User {
            name: String::new(),
            uid: 7,
            gid: 7,
        };
        assert_eq!(find_groups(GROUP, &nameless), [7]);
    }
}
