import "./bench";
