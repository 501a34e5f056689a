"""Who may do what: identities, allow and deny rules, presented as one pure decision. No I/O."""
