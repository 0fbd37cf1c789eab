"""Operations: the `credix` command for people and scripts."""
