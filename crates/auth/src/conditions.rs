//! The conditions on projects for the SQL statements of other crates, which do not know the columns of these tables.

/// The condition that a project was deleted; `project` is an expression for its id, here and below.
pub fn deleted(project: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM projects p WHERE p.project_id = {project} AND p.deleted_at IS NOT NULL)"
    )
}

/// The condition that a project is being imported ([`imports`](crate::imports)), so that no user has it yet.
pub fn imported(project: &str) -> String {
    format!("{project} IN (SELECT project_id FROM projects WHERE owner_id = '')")
}

/// The condition that a project exists: it is neither deleted nor being imported.
pub fn exists(project: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM projects p
                  WHERE p.project_id = {project} AND p.deleted_at IS NULL AND p.owner_id <> '')"
    )
}

/// The condition that a user owns a project or is its member.
pub fn of_user(project: &str, user: &str) -> String {
    format!(
        "{project} IN ({}
             UNION
            SELECT m.project_id FROM project_members m JOIN projects p ON p.project_id = m.project_id
             WHERE m.user_id = {user} AND p.deleted_at IS NULL)",
        owned(user)
    )
}

/// The statement that lists the projects of an owner.
pub fn owned(owner: &str) -> String {
    format!("SELECT project_id FROM projects WHERE owner_id = {owner} AND deleted_at IS NULL")
}

/// The expression for a project's owner, who stays its owner after it is deleted.
pub fn owner(project: &str) -> String {
    format!("(SELECT p.owner_id FROM projects p WHERE p.project_id = {project})")
}
