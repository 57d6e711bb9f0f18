import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Searches a query plane of Penstock, or asks it, with nothing but the JDK (17 or later).
 *
 * <pre>
 * java PenstockSearch.java search "a red bicycle"
 * java PenstockSearch.java --url http://127.0.0.1:8600 --tenant acme ask "Where do herons nest?"
 * </pre>
 *
 * Answers are shown sentence by sentence, each as soon as it was checked against its sources. The exit code is 0, 2 for a
 * request that the query plane refuses, and 3 if it cannot be reached or is too busy.
 */
public final class PenstockSearch {

    private static final int MAX_ATTEMPTS = 4;
    private static final long MAX_WAIT_SECONDS = 20;

    // By default the client of the JDK proposes HTTP/2 with the first request, and that request would lose its body.
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(5))
            .build();
    private final String url;
    private final String tenant;

    PenstockSearch(String url, String tenant) {
        this.url = url;
        this.tenant = tenant;
    }

    public static void main(String[] arguments) throws InterruptedException {
        String url = "http://127.0.0.1:8600";
        String tenant = null;
        List<String> words = new ArrayList<>();
        for (int at = 0; at < arguments.length; at++) {
            switch (arguments[at]) {
                case "--url" -> url = arguments[++at];
                case "--tenant" -> tenant = arguments[++at];
                default -> words.add(arguments[at]);
            }
        }
        if (words.size() != 2 || !List.of("search", "ask").contains(words.get(0))) {
            System.err.println("Usage: java PenstockSearch.java [--url URL] [--tenant NAME] search|ask WORDS");
            System.exit(2);
        }
        PenstockSearch penstock = new PenstockSearch(url, tenant);
        try {
            if (words.get(0).equals("search")) {
                penstock.search(words.get(1));
            } else {
                penstock.ask(words.get(1));
            }
        } catch (RefusedException refused) {
            System.err.println(refused.getMessage());
            System.exit(2);
        } catch (IOException unavailable) {
            System.err.println("No answer from " + url + ": " + unavailable);
            System.exit(3);
        }
    }

    /** Prints the hits, best first. */
    void search(String text) throws IOException, InterruptedException {
        Map<String, Object> body = new LinkedHashMap<>();
        body.put("text", text);
        body.put("limit", 5);
        try (InputStream response = post("/v1/search", body)) {
            Map<String, Object> result = Json.object(new String(response.readAllBytes(), StandardCharsets.UTF_8));
            int rank = 0;
            for (Object item : Json.list(result.get("hits"))) {
                Map<String, Object> hit = Json.map(item);
                Map<String, Object> moment = Json.map(hit.get("moment"));
                Object words = moment.isEmpty() ? hit.get("text") : moment.get("transcript");
                System.out.printf("%d. %s [%s] %s%n", ++rank, hit.get("title"), hit.get("collection"), words);
            }
            if (Boolean.TRUE.equals(result.get("nothing_found"))) {
                System.out.println("Nothing in the index answers this well.");
            }
        }
    }

    /** Prints the sentences of an answer as they are checked, and then its sources. */
    void ask(String question) throws IOException, InterruptedException {
        Map<String, Object> body = new LinkedHashMap<>();
        body.put("question", question);
        body.put("stream", true);
        try (InputStream response = post("/v1/ask", body)) {
            String event = "";
            StringBuilder line = new StringBuilder();
            for (int next = response.read(); next >= 0; next = response.read()) {
                if (next != '\n') { // a line of the stream is ASCII but for the JSON, whose bytes are decoded together
                    line.append((char) next);
                    continue;
                }
                String text = new String(line.toString().getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
                line.setLength(0);
                if (text.startsWith("event: ")) {
                    event = text.substring("event: ".length()).strip();
                } else if (text.startsWith("data: ")) {
                    show(event, Json.object(text.substring("data: ".length())));
                }
            }
        }
    }

    private static void show(String event, Map<String, Object> data) throws RefusedException {
        switch (event) {
            case "sentence" -> {
                if (!Boolean.TRUE.equals(data.get("dropped"))) {
                    System.out.println(data.get("text") + " " + Json.list(data.get("citations")));
                }
            }
            case "done" -> {
                if (Boolean.TRUE.equals(data.get("abstained"))) {
                    System.out.println(data.get("answer"));
                }
                for (Object item : Json.list(data.get("sources"))) {
                    Map<String, Object> source = Json.map(item);
                    System.out.printf("  [%s] %s%n", source.get("n"), Json.map(source.get("hit")).get("title"));
                }
            }
            case "error" -> throw new RefusedException(String.valueOf(data.get("detail")));
            default -> { } // what was found, and tokens that are not checked yet
        }
    }

    /** Returns the body of a successful response, after further attempts while the plane is busy. */
    private InputStream post(String path, Map<String, Object> body) throws IOException, InterruptedException {
        if (tenant != null) {
            body.put("tenant", tenant);
        }
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + path))
                .header("Content-Type", "application/json")
                .timeout(Duration.ofSeconds(60)) // until the response begins
                .POST(HttpRequest.BodyPublishers.ofString(Json.write(body)))
                .build();
        for (int attempt = 1; ; attempt++) {
            HttpResponse<InputStream> response = http.send(request, HttpResponse.BodyHandlers.ofInputStream());
            int status = response.statusCode();
            if (status == 200) {
                return response.body();
            }
            String text;
            try (InputStream problem = response.body()) {
                text = new String(problem.readAllBytes(), StandardCharsets.UTF_8);
            }
            long wait = response.headers().firstValueAsLong("Retry-After").orElse(1);
            boolean isBusy = status == 429 || status == 503;
            if (!isBusy) {
                throw new RefusedException(detail(text, status));
            }
            if (attempt == MAX_ATTEMPTS || wait > MAX_WAIT_SECONDS) {
                throw new IOException(detail(text, status));
            }
            Thread.sleep(Duration.ofSeconds(wait).toMillis());
        }
    }

    /** Returns what a problem document (RFC 9457) says, or the status of a response that is none. */
    private static String detail(String text, int status) {
        try {
            return String.valueOf(Json.object(text).getOrDefault("detail", "status " + status));
        } catch (IllegalArgumentException noJson) {
            return "status " + status;
        }
    }

    /** The query plane refuses the request. */
    private static final class RefusedException extends IOException {
        private static final long serialVersionUID = 1L;

        RefusedException(String message) {
            super(message);
        }
    }

    /** Reads and writes JSON: objects as maps, numbers as doubles. */
    private static final class Json {

        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        static Map<String, Object> object(String text) {
            Json json = new Json(text);
            Object value = json.value();
            json.space();
            if (json.at < text.length() || !(value instanceof Map)) {
                throw new IllegalArgumentException("not one JSON object");
            }
            return map(value);
        }

        @SuppressWarnings("unchecked")
        static Map<String, Object> map(Object value) {
            return value == null ? Map.of() : (Map<String, Object>) value;
        }

        static List<?> list(Object value) {
            return value == null ? List.of() : (List<?>) value;
        }

        static String write(Object value) {
            if (value instanceof Map<?, ?> map) {
                List<String> members = new ArrayList<>();
                map.forEach((name, member) -> members.add(write(name.toString()) + ":" + write(member)));
                return "{" + String.join(",", members) + "}";
            }
            if (!(value instanceof String string)) {
                return String.valueOf(value);
            }
            StringBuilder out = new StringBuilder("\"");
            for (char c : string.toCharArray()) {
                if (c == '"' || c == '\\') {
                    out.append('\\').append(c);
                } else if (c < ' ' || Character.isSurrogate(c)) {
                    out.append(String.format("\\u%04x", (int) c));
                } else {
                    out.append(c);
                }
            }
            return out.append('"').toString();
        }

        private Object value() {
            space();
            char first = peek();
            if (first == '{') {
                return members();
            } else if (first == '[') {
                return items();
            } else if (first == '"') {
                return string();
            }
            int start = at;
            while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(start, at);
            return switch (word) {
                case "true" -> true;
                case "false" -> false;
                case "null" -> null;
                default -> number(word);
            };
        }

        private static Object number(String word) {
            double value = Double.parseDouble(word); // NumberFormatException is an IllegalArgumentException
            return value == Math.rint(value) && Math.abs(value) < 1e15 ? (Object) (long) value : (Object) value;
        }

        private Map<String, Object> members() {
            Map<String, Object> members = new LinkedHashMap<>();
            for (take('{'); !ended('}'); separator('}')) {
                space();
                String name = string();
                space();
                take(':');
                members.put(name, value());
            }
            return members;
        }

        private List<Object> items() {
            List<Object> items = new ArrayList<>();
            for (take('['); !ended(']'); separator(']')) {
                items.add(value());
            }
            return items;
        }

        private String string() {
            StringBuilder out = new StringBuilder();
            take('"');
            while (peek() != '"') {
                char c = text.charAt(at++);
                if (c != '\\') {
                    out.append(c);
                    continue;
                }
                char escape = peek();
                at++;
                switch (escape) {
                    case 'n' -> out.append('\n');
                    case 't' -> out.append('\t');
                    case 'r' -> out.append('\r');
                    case 'b' -> out.append('\b');
                    case 'f' -> out.append('\f');
                    case 'u' -> {
                        out.append((char) Integer.parseInt(text, at, at + 4, 16));
                        at += 4;
                    }
                    default -> out.append(escape);
                }
            }
            at++;
            return out.toString();
        }

        private boolean ended(char close) {
            space();
            if (peek() != close) {
                return false;
            }
            at++;
            return true;
        }

        private void separator(char close) {
            space();
            if (peek() != close) {
                take(',');
            }
        }

        private void take(char expected) {
            if (peek() != expected) {
                throw new IllegalArgumentException("'" + expected + "' expected at " + at);
            }
            at++;
        }

        private char peek() {
            if (at >= text.length()) {
                throw new IllegalArgumentException("the JSON ends early");
            }
            return text.charAt(at);
        }

        private void space() {
            while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
                at++;
            }
        }
    }
}
