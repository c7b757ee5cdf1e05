from seigh._command import main

main()
